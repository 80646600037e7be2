"""From samples as they came to samples that can be judged: order, duplicates, clock, quality (equipment.md §7.0, §7.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from domain.readings import Reading, Value
from domain.verdicts import Reason
from domain.verification.reasons import say

YEAR_2000_MS = 946_684_800_000
SKEW_MS = 30_000
REORDER_MS = 10_000
"""A device time that runs backwards by more than one sample is a clock that cannot be believed (EJ)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Samples in order of time, one for each moment; ``channels`` are all that the machine sent, usable or not.

    ``obstacles`` are why no pass can come of them, ``notes`` what was done. ``span_ms`` is how long they kept coming, whatever
    they are worth, by time of receipt where there is one. ``shift_ms`` was added to every device time.
    """

    readings: tuple[Reading, ...]
    channels: frozenset[str]
    obstacles: tuple[Reason, ...]
    notes: tuple[Reason, ...]
    span_ms: int
    shift_ms: int = 0


def prepare(samples: Sequence[Reading], *, demo_site: bool) -> Evidence:
    """Sort, merge and clean ``samples``; the order in which they are given never matters.

    What a bad clock has touched is left out, so that only what came before it can still fail a run.
    """
    obstacles: list[Reason] = []
    notes: list[Reason] = []
    samples = [_as_the_device_said(r) for r in samples]
    usable = [r for r in samples if r.ts >= YEAR_2000_MS]
    if len(usable) < len(samples):
        obstacles.append(say("before_2000", count=f"{len(samples) - len(usable)}"))
    real = [r for r in usable if demo_site or not r.simulated]
    if len(real) < len(usable):
        obstacles.append(say("simulated", count=f"{len(usable) - len(real)}"))
    steady = _until_clock_steps_back(real)
    if len(steady) < len(real):
        obstacles.append(say("clock_backwards"))
    merged = [_merge(rows) for _, rows in sorted(_by_time(steady).items())]
    merged = [r for r in merged if r.values or r.rejected]
    until = _clock_leap(merged)
    if until is not None:
        obstacles.append(say("clock_leaps"))
        merged = merged[:until]
    shift = _constant_skew(merged)
    if shift:
        notes.append(say("clock_skew", shift=f"{-shift / 1000:+.0f}"))
    # from here on a sample is a sample: what it is worth has been decided above
    readings = tuple(replace(r, ts=r.ts + shift, simulated=False, backfill=False) for r in merged)
    channels = frozenset(channel for r in steady for channel in (*r.values, *r.rejected))
    came = [r.ts if r.recv_ms is None else r.recv_ms for r in samples]
    span_ms = max(came) - min(came) if came else 0
    return Evidence(readings, channels, tuple(obstacles), tuple(notes), span_ms, shift)


def _as_the_device_said(reading: Reading) -> Reading:
    """Undo a replaced device time: whether its clock is believed in this run is decided over all of its samples."""
    if reading.device_ts is None:
        return reading
    received = reading.ts if reading.recv_ms is None else reading.recv_ms
    return replace(reading, ts=reading.device_ts, device_ts=None, recv_ms=received)


def _by_time(samples: Sequence[Reading]) -> Mapping[int, list[Reading]]:
    moments: dict[int, list[Reading]] = defaultdict(list)
    for reading in samples:
        moments[reading.ts].append(reading)
    return moments


def _merge(rows: Sequence[Reading]) -> Reading:
    """One sample of all rows of one moment: field by field, the later ``seq`` wins; a conflict without one drops the channel."""
    if len(rows) == 1:
        return rows[0]
    ordered = sorted(rows, key=lambda r: (r.boot or "", -1 if r.seq is None else r.seq))
    comparable = len({r.boot for r in rows}) == 1 and all(r.seq is not None for r in rows)
    found: dict[str, tuple[int | None, Value]] = {}
    conflicting: set[str] = set()
    for row in ordered:
        for channel, value in row.values.items():
            if channel in found:
                seq, known = found[channel]
                if comparable and seq != row.seq:
                    conflicting.discard(channel)
                elif known != value:
                    conflicting.add(channel)
            found[channel] = (row.seq, value)
    values = {channel: value for channel, (_, value) in sorted(found.items()) if channel not in conflicting}
    rejected = {c: v for row in ordered for c, v in row.rejected.items() if c not in values}
    received = [r.recv_ms for r in rows if r.recv_ms is not None]
    last = ordered[-1]
    return replace(
        last, values=values, rejected=rejected, backfill=all(r.backfill for r in rows),
        recv_ms=min(received, default=None),
    )  # fmt: skip


def _until_clock_steps_back(samples: Sequence[Reading]) -> list[Reading]:
    """The samples up to where, in the order of ``seq``, device time runs backwards; all of them where it does not."""
    boots: dict[str | None, list[Reading]] = defaultdict(list)
    for reading in samples:
        if reading.seq is not None:
            boots[reading.boot].append(reading)
    kept = list(samples)
    for boot, rows in boots.items():
        rows.sort(key=lambda r: (r.seq or 0, r.ts))
        latest = rows[0].ts
        for reading in rows:
            if reading.ts < latest - REORDER_MS:
                first, step = rows[0].ts, reading.seq or 0
                kept = [
                    r for r in kept
                    if (r.boot == boot and r.seq is not None and r.seq < step) or (r.boot != boot and r.ts < first)
                ]  # fmt: skip
                break
            latest = max(latest, reading.ts)
    return kept


def _lateness(reading: Reading) -> int | None:
    return None if reading.recv_ms is None or reading.backfill else reading.recv_ms - reading.ts


def _clock_leap(merged: Sequence[Reading]) -> int | None:
    """Index of the first sample that is dated ahead of its receipt, measured by those before it; None without one.

    Lateness may grow by any amount (a queue) and shrinks gently as the queue drains; only a leap of the clock cuts it at once.
    """
    least: int | None = None
    for index, reading in enumerate(merged):
        late = _lateness(reading)
        if late is None:
            continue
        if least is not None and late < least - SKEW_MS:
            return index
        least = late if least is None else min(least, late)
    return None


def _constant_skew(merged: Sequence[Reading]) -> int:
    """Median of receive time − device time in ms where it is constant and at least 30 s either way, else 0."""
    lateness = [late for late in map(_lateness, merged) if late is not None]
    if not lateness:
        return 0
    middle = round(median(lateness))
    return middle if abs(middle) >= SKEW_MS and middle - min(lateness) <= SKEW_MS else 0
