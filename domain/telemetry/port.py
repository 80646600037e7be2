"""What a time-series store of readings must do; ``influx.py`` and ``sqlite.py`` answer it with the same results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from domain.readings import Reading, Value

RAW_RETENTION = timedelta(days=180)
"""How long single samples are kept where setup makes the store."""
MINUTE_RETENTION = timedelta(days=3650)
"""How long one-minute means are kept."""


@dataclass(frozen=True, slots=True)
class Row:
    """The stored values of one machine at ``ts`` (ms UTC), or their means over the span that begins at ``ts``."""

    ts: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class RefusedPoint:
    """A point that the store can never take: its line as it was sent (empty where the store did not say which) and why."""

    reason: str
    message: str
    line: bytes = b""


OnRefused = Callable[[RefusedPoint], None]


class Telemetry(Protocol):
    """A time-series store. Ranges are half-open ``[start_ms, end_ms)`` in ms UTC; rows come oldest first.

    Every method raises UnavailableError when the store is away (``retry_after`` in seconds). ``answers`` counts what the
    server said by HTTP status (``none`` where it did not answer); it stays empty where there is no server.
    """

    answers: Counter[str]

    def setup(self) -> None:
        """Make what the store needs (tables, buckets, tasks); harmless when it is there already."""
        ...

    def ping(self) -> None:
        """Return when the store answers and lets us in."""
        ...

    def write(self, readings: Sequence[Reading]) -> None:
        """Store readings. A point is identified by (type, serial, ts): writing it again changes nothing, and a later
        write of the same point adds to its fields or replaces them."""
        ...

    def range(
        self,
        serial: str,
        type: str,
        start_ms: int,
        end_ms: int,
        channels: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[Row]:
        """Single samples; with ``limit`` only the newest so many. Rows without any of ``channels`` are left out."""
        ...

    def downsampled(
        self, serial: str, type: str, start_ms: int, end_ms: int, channels: Sequence[str], every_s: int
    ) -> list[Row]:
        """Means of numeric ``channels`` over spans of ``every_s`` that are aligned to 1970; empty spans are left out."""
        ...

    def last(self, serial: str, type: str) -> Row | None:
        """The newest sample; None where nothing is stored. (Pages read the last values that the gateway keeps in SQL.)"""
        ...

    def purge(self, before_ms: int) -> None:
        """Forget samples older than ``before_ms``, where the store does not do so by itself."""
        ...

    def close(self) -> None:
        """Give back connections; the store is not used afterwards."""
        ...


@runtime_checkable
class LineStore(Protocol):
    """A store that takes line protocol as it is, besides readings."""

    def write_lines(self, lines: bytes) -> None:
        """Store points written as InfluxDB's line protocol, time in ms, a line break between two; as ``write`` otherwise."""
        ...
