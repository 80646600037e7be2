"""The embedded MQTT broker of ``brewair demo``: a child process bound to 127.0.0.1 that keeps nothing on disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iotcore import Broker

from domain.errors import UnavailableError

PAYLOAD_BYTES = 1 << 20
SEGMENT_BYTES = 10 << 20
"""Log per topic filter; the default of 100 MB makes memory grow without need."""

CONFIGURATION = f"""\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = {SEGMENT_BYTES}
max_segment_count = 10

[v4.1]
name = "mqtt"
listen = "127.0.0.1:{{port}}"
next_connection_delay_ms = 1

[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = {PAYLOAD_BYTES}
max_inflight_count = 500
dynamic_filters = true
"""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def embedded_broker(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run the broker; gives its ``mqtt://`` address. Raises UnavailableError where the port is taken."""
    chosen = port or free_port()
    configuration = folder / "broker.toml"
    configuration.write_text(CONFIGURATION.format(port=chosen))
    broker = Broker(config_path=str(configuration))
    try:
        broker.start()
    except (OSError, RuntimeError) as error:
        raise UnavailableError("The embedded broker cannot start: {reason}", reason=error) from error
    try:
        yield f"mqtt://127.0.0.1:{chosen}"
    finally:
        broker.stop()
