"""The gateway with business time ``FACTOR`` times as fast as the wall since ``EPOCH``: half an hour of silence in a minute."""

from __future__ import annotations

import os
import signal
import threading
from datetime import datetime

from domain import settings
from domain.clock import ScaledClock
from gateway.__main__ import log_lines
from gateway.service import Gateway


def main() -> None:
    """As ``gateway.__main__``, with another clock."""
    log_lines()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: stop.set())
    epoch = datetime.fromisoformat(os.environ["EPOCH"])
    Gateway(settings.load(), ScaledClock(epoch, epoch, float(os.environ["FACTOR"]))).run(stop)


if __name__ == "__main__":
    main()
