"""Figures about a running program, as Prometheus text on a listener of their own.

They need no log-in, so they are never on the portal's own address: nothing listens unless ``BREWAIR_METRICS_BIND`` says
where. Programs count in plain integers; everything else happens when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import Metric

from domain.errors import SettingsError

Collect = Callable[[], Iterable[Metric]]


class _Collector:
    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked for its figures before somebody wants them."""
        return ()


def registry_of(collect: Collect) -> CollectorRegistry:
    """What ``collect`` gives at each look, and the memory, CPU time and open files of this process."""
    registry = CollectorRegistry()
    registry.register(_Collector(collect))
    ProcessCollector(registry=registry)
    return registry


@contextmanager
def serving(bind: tuple[str, int] | None, collect: Collect) -> Iterator[str]:
    """Answer at ``bind`` for as long as the ``with`` lasts; gives the address, "" where ``bind`` is None.

    Raises SettingsError where the address cannot be had.
    """
    if bind is None:
        yield ""
        return
    host, port = bind[0].strip("[]"), bind[1]
    try:
        server, thread = start_http_server(port, host, registry_of(collect))
    except OSError as error:
        raise SettingsError(
            "BREWAIR_METRICS_BIND: cannot listen on {host}:{port}: {reason}",
            host=host,
            port=port,
            reason=error.strerror or str(error),
        ) from error
    try:
        yield f"http://{bind[0]}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
