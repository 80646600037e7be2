"""The portal as a server: put together from settings, and run in any thread until an event stops it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from fastapi import FastAPI

from domain.clock import Clock
from domain.errors import BrewairError, SettingsError
from domain.settings import Settings
from domain.store import schema
from domain.store.session import Sessions, open_engine
from domain.telemetry.stores import open_telemetry
from portal.app import create_app

log = structlog.get_logger(__name__)
GRACE_S = 5
"""How long requests may go on after the stop."""


def open_portal(settings: Settings, clock: Clock) -> FastAPI:
    """The application on the stores that the settings name; the database gets the present schema.

    Raises SettingsError or UnavailableError with the reason.
    """
    engine = open_engine(settings.database_url)
    schema.upgrade(engine)
    telemetry = open_telemetry(settings)
    try:
        telemetry.setup()
    except BrewairError as error:  # tickets can be worked on without charts; /readyz says what is missing
        log.warning("the telemetry store is not ready", error=str(error))
    return create_app(settings, clock, Sessions(engine), telemetry)


def serve(
    app: FastAPI, bind: tuple[str, int], stop: threading.Event, ready: Callable[[str], None] | None = None
) -> None:
    """Serves until ``stop`` is set; blocks. ``ready`` is told the address once it answers (port 0 takes a free one).

    Installs no signal handler, so that it runs in any thread. Raises SettingsError when the address cannot be had.
    """
    listener = _listen(bind)
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_S, lifespan="on"
    )
    server = _Server(config, lambda: ready(f"http://{host}:{port}") if ready else None)

    def end() -> None:
        stop.wait()
        app.state.portal.live.close()  # streams would otherwise keep the server waiting
        server.should_exit = True

    watcher = threading.Thread(target=end, name="portal-stop", daemon=True)
    watcher.start()
    try:
        server.run(sockets=[listener])
    finally:
        stop.set()
        watcher.join(timeout=GRACE_S)
        listener.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program, not to one of its threads."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def _listen(bind: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bind[0].strip("[]"), bind[1]))
    except OSError as error:
        listener.close()
        raise SettingsError(
            "BREWAIR_PORTAL_BIND: cannot listen on {host}:{port}: {reason}",
            host=bind[0],
            port=bind[1],
            reason=error.strerror or str(error),
        ) from error
    return listener
