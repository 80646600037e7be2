"""``python -m gateway``: the gateway with production settings, until SIGTERM or SIGINT."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType

import structlog

from domain import settings
from domain.clock import SystemClock
from domain.errors import BrewairError
from gateway.ingest.paho_receiver import end_session
from gateway.service import Gateway

NOT_DRAINED = 1
USAGE_ERROR = 2


def log_lines() -> None:
    """One line per event on stderr: for people on a terminal, JSON elsewhere."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def spare_the_collector() -> None:
    """What is there at the start stays, and messages leave by themselves: look for cycles rarely (a tenth of the CPU)."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 2 << 20


def spare_memory() -> None:
    """Have glibc give back what was large and is free. By itself it keeps such memory for the next time, for each thread apart;
    other libraries have no ``mallopt``."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, LARGE_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def main(options: Mapping[str, str] | None = None, *, drain: bool = False, forget: bool = False) -> None:
    """Run until a signal comes; ``options`` win over the environment. With ``drain`` until the spool is worked off, and
    ``forget`` then ends the session at the broker. Raises SettingsError where it cannot start."""
    spare_memory()
    log_lines()
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    given = settings.load({**os.environ, **(options or {})})
    gateway = Gateway(given, SystemClock())
    spare_the_collector()
    drained = gateway.run(stop, drain=drain)
    if drain and not drained:
        sys.exit(NOT_DRAINED)
    if forget:
        end_session(given, gateway.name)


if __name__ == "__main__":
    try:
        main()
    except BrewairError as error:
        for line in str(error).splitlines():
            print(f"gateway: {line}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
