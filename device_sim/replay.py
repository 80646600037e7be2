"""Recorded data as a machine: a trace of channels is replayed as it is, an outdoor PM2.5 record drives a simulated unit.

Formats: ``tracebase`` (``dd/mm/yyyy hh:mm:ss;W averaged over 1 s;over 8 s``), ``beijing`` (hourly PM2.5, UCI), and ``csv``: first
column a time (ms since 1970, or ISO 8601), the others by name of the header or number, as ``--map channel=column`` says.
"""

from __future__ import annotations

import bisect
import csv
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TextIO

from device_sim.faults import nearest
from device_sim.machine import Machine
from device_sim.profiles.physics import Condition, Notice
from device_sim.site import HOUR_MS, PmSeries
from domain.catalogue.freshair.channels import CHANNELS as FRESHAIR
from domain.catalogue.model import Channel, ModelCard
from domain.catalogue.soymilk.channels import CHANNELS as SOYMILK
from domain.clock import to_ms
from domain.errors import InvalidError
from domain.readings import Value

CHANNELS: Mapping[str, Mapping[str, Channel]] = {"soymilk": SOYMILK, "freshair": FRESHAIR}
HOLD_MS = 10_000
"""How long a recorded row stands for what follows; a longer hole is a hole in the replay too."""
BEIJING = timezone(timedelta(hours=8))
ReadTime = Callable[[str], int]
TRUE, FALSE = ("1", "true"), ("0", "false")


@dataclass(frozen=True, slots=True)
class Trace:
    """Rows in order of time: UTC ms, and what was recorded then."""

    times: Sequence[int]
    rows: Sequence[Mapping[str, Value]]

    @property
    def start_ms(self) -> int:
        """Time of the first row."""
        return self.times[0]

    @property
    def end_ms(self) -> int:
        """Time of the last row."""
        return self.times[-1]

    def part(self, from_ms: int | None, length_ms: int | None) -> Trace:
        """The rows from ``from_ms`` on (None: the first), for ``length_ms`` (None: to the end). Raises InvalidError if none."""
        first = self.start_ms if from_ms is None else from_ms
        last = self.end_ms if length_ms is None else first + length_ms
        low, high = bisect.bisect_left(self.times, first), bisect.bisect_right(self.times, last)
        if low >= high:
            raise InvalidError("The record has nothing in that time", field="from")
        return Trace(self.times[low:high], self.rows[low:high])

    def at(self, now_ms: int) -> Mapping[str, Value]:
        """The newest row that is not older than ``HOLD_MS``; else nothing."""
        k = bisect.bisect_right(self.times, now_ms) - 1
        return self.rows[k] if k >= 0 and now_ms - self.times[k] <= HOLD_MS else {}


@dataclass(frozen=True, slots=True)
class HourlyRecord:
    """Values by hour since 1970 (UTC)."""

    hours: Mapping[int, float]

    @property
    def start_ms(self) -> int:
        """Time of the first value."""
        return min(self.hours) * HOUR_MS

    def at(self, now_ms: int) -> float | None:
        """Straight between two hours; None next to a hole."""
        hour, rest = divmod(now_ms, HOUR_MS)
        before, after = self.hours.get(hour), self.hours.get(hour + 1)
        if before is None or after is None:
            return before if rest == 0 else None
        return before + (after - before) * rest / HOUR_MS

    def later(self, shift_ms: int) -> PmSeries:
        """The curve moved to times ``shift_ms`` later."""
        return lambda now_ms: self.at(now_ms - shift_ms)


class TraceSource:
    """A trace in the place of physics; ``shift_ms`` is added to the recorded times."""

    programs: tuple[str, ...] = ()

    def __init__(self, trace: Trace, shift_ms: int) -> None:
        self._trace, self._shift_ms = trace, shift_ms
        self._condition = Condition()

    @property
    def condition(self) -> Condition:
        """Mains plug and network can be lost; the recorded figures cannot change."""
        return self._condition

    def max_step_ms(self, now_ms: int) -> int:
        """Nothing happens between samples."""
        return HOUR_MS

    def step(self, now_ms: int, dt_ms: int) -> None:
        """The record needs no time to pass."""

    def sample(self, now_ms: int) -> dict[str, Value]:
        """The recorded row of this moment."""
        return dict(self._trace.at(now_ms - self._shift_ms))

    def signature(self) -> tuple[object, ...]:
        """A record changes nothing by itself."""
        return ()

    def notices(self) -> list[Notice]:
        """None."""
        return []

    def power_on(self, now_ms: int) -> None:
        """Nothing to begin."""

    def start_test(self, program: str, now_ms: int, active_s: float = 0.0) -> None:
        """Unreachable: a record has no programs."""
        raise InvalidError("A recorded trace has no test program")

    def end_test(self) -> None:
        """Nothing to end."""

    def stop(self) -> None:
        """A record cannot be stopped."""

    def acknowledge(self) -> None:
        """A record latches nothing."""


def machine_of(trace: Trace, serial: str, card: ModelCard, *, start_ms: int, interval_s: int, seed: int = 0) -> Machine:
    """A machine that says what ``trace`` recorded, beginning at ``start_ms``."""
    source = TraceSource(trace, start_ms - trace.start_ms)
    return Machine(serial, card, source, random.Random(f"{seed}:{serial}"), start_ms=start_ms, interval_s=interval_s)


def read_tracebase(path: Path, mapping: Mapping[str, str] | None = None) -> Trace:
    """A day of tracebase; default mapping ``power_w=1``. Its local times are taken as UTC. Raises InvalidError."""
    with _opened(path) as file:
        rows = csv.reader(file, delimiter=";")
        return _trace(path, rows, _columns(path, mapping or {"power_w": "1"}, [], SOYMILK), SOYMILK, _tracebase_time)


def read_csv(path: Path, mapping: Mapping[str, str], equipment_type: str) -> Trace:
    """A CSV with a header; ``mapping`` is channel → column (name or number from 0); empty = channels by name.

    Blank cells are absent values. Raises InvalidError for channels or columns that do not exist and cells that cannot be read.
    """
    channels = CHANNELS.get(equipment_type, {})
    with _opened(path) as file:
        rows = csv.reader(file)
        header = next(rows, [])
        columns = _columns(path, mapping or {c: c for c in header[1:] if c in channels}, header, channels)
        return _trace(path, rows, columns, channels, _any_time)


def read_beijing(path: Path) -> HourlyRecord:
    """The hourly record of 2010–14; its hours are Beijing's. Raises InvalidError."""
    hours: dict[int, float] = {}
    with _opened(path) as file:
        for row in csv.DictReader(file):
            try:
                year, month, day, hour = (int(row[key]) for key in ("year", "month", "day", "hour"))
                moment = datetime(year, month, day, hour, tzinfo=BEIJING)
                if row["pm2.5"] != "NA":
                    hours[to_ms(moment) // HOUR_MS] = float(row["pm2.5"])
            except (KeyError, ValueError) as error:
                raise InvalidError("{path}: not the Beijing record: {reason}", path=path, reason=error) from error
    if not hours:
        raise InvalidError("{path} has no rows", path=path)
    return HourlyRecord(hours)


# ---------------------------------------------------------------------- reading


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidError("Cannot read {path}: {reason}", path=path, reason=error.strerror) from error


def _trace(
    path: Path,
    rows: Iterable[Sequence[str]],
    columns: Mapping[str, int],
    channels: Mapping[str, Channel],
    time: ReadTime,
) -> Trace:
    """Rows of ``path`` by time; of rows of one time the last one stays."""
    by_time: dict[int, dict[str, Value]] = {}
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            cells = {key: row[column].strip() for key, column in columns.items()}
            by_time[time(row[0])] = {key: _value(cell, channels[key]) for key, cell in cells.items() if cell}
        except (ValueError, IndexError) as error:
            raise InvalidError("{path}, row {row}: {reason}", path=path, row=number, reason=error) from error
    if not by_time:
        raise InvalidError("{path} has no rows", path=path)
    times = sorted(by_time)
    return Trace(times, [by_time[ts] for ts in times])


def _columns(
    path: Path, mapping: Mapping[str, str], header: Sequence[str], channels: Mapping[str, Channel]
) -> dict[str, int]:
    """Channel → number of its column."""
    columns: dict[str, int] = {}
    for channel, column in mapping.items():
        if channel not in channels:
            raise InvalidError("No channel {key}{near}", field="map", key=channel, near=nearest(channel, channels))
        if column not in header and not column.isdigit():
            raise InvalidError(
                "{path} has no column {key}{near}", field="map", path=path, key=column, near=nearest(column, header)
            )
        columns[channel] = header.index(column) if column in header else int(column)
    if not columns:
        raise InvalidError(
            "{path}: no column is a channel; say which with --map channel=column", field="map", path=path
        )
    return columns


def _value(cell: str, channel: Channel) -> Value:
    match channel.kind:
        case "str":
            return cell
        case "bool":
            if cell.lower() not in (*TRUE, *FALSE):
                raise ValueError(f"{channel.key} must be 0, 1, true or false, not {cell!r}")
            return cell.lower() in TRUE
    return float(cell)


def _tracebase_time(text: str) -> int:
    return to_ms(datetime.strptime(text, "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC))


def _any_time(text: str) -> int:
    """ms since 1970, or ISO 8601 (without an offset: UTC)."""
    if text.strip().lstrip("-").isdigit():
        return int(text)
    moment = datetime.fromisoformat(text.strip())
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
