"""The only place that asks what time it is.

Three times are never mixed: device time (``Reading.ts``), business time (a :class:`Clock`), and wall or monotonic time
(always :class:`SystemClock`: log-in sessions, rate limits, keepalive).
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Business time. ``now()`` is aware UTC; ``wait`` blocks for a span of business time or until ``stop`` is set."""

    def now(self) -> datetime: ...

    def wait(self, span: timedelta, stop: threading.Event) -> bool:
        """Block for ``span`` of business time; return True as soon as ``stop`` is set."""
        ...


class SystemClock:
    """The wall clock of the machine."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def wait(self, span: timedelta, stop: threading.Event) -> bool:
        """Block for ``span``; True when stopped."""
        return stop.wait(max(0.0, span.total_seconds()))


class ScaledClock:
    """Business time that runs ``factor`` times as fast as the wall since ``epoch``, when it showed ``start``.

    All three values are handed to every process of a demo, so that they agree without talking.
    """

    def __init__(self, epoch: datetime, start: datetime, factor: float) -> None:
        self.epoch, self.start, self.factor = epoch, start, factor

    def now(self) -> datetime:
        """Aware UTC of the scaled time."""
        return self.start + (datetime.now(UTC) - self.epoch) * self.factor

    def wait(self, span: timedelta, stop: threading.Event) -> bool:
        """Block for ``span`` of scaled time; True when stopped."""
        return stop.wait(max(0.0, span.total_seconds() / self.factor))


class ManualClock:
    """Time that somebody else moves: tests, and a simulation at full speed."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Aware UTC as last set."""
        return self._now

    def set(self, now: datetime) -> None:
        """Move to ``now``; never backwards."""
        self._now = max(self._now, now)

    def advance(self, span: timedelta) -> datetime:
        """Move forward by ``span`` and return the new time."""
        self._now += span
        return self._now

    def wait(self, span: timedelta, stop: threading.Event) -> bool:
        """Does not block: whoever moves this clock decides when time has passed."""
        return stop.is_set()


def from_ms(ms: int) -> datetime:
    """Aware UTC of whole milliseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970 of an aware time."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
