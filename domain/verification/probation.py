"""Where in the samples of a machine on probation the dirty air is that its pass still owes (equipment.md §7.2, §7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, median_low

from domain.catalogue.freshair.plans import DIRTY_UGM3, PROBATION
from domain.catalogue.model import ModelCard
from domain.readings import Reading
from domain.verdicts import Outcome, Verdict
from domain.verification.evidence import prepare
from domain.verification.freshair import PM_IN, PM_OUT
from domain.verification.judge import judge
from domain.verification.timeline import GAP_MS, MAX_INTERVAL_MS, Timeline

WINDOW_MS = round(PROBATION.min_active_s * 1000)
STEP_MS = 600_000
"""Two hours that could not be judged: the next two are looked at ten minutes on (EJ)."""


def judge_dirty_air(
    card: ModelCard, samples: Sequence[Reading], *, after_ms: int = 0, demo_site: bool = False
) -> tuple[Verdict, int, int] | None:
    """The verdict on the first 2 h of unbroken running in which either PM sensor's median is at least 75 µg/m³, hour by hour.

    Returns it with the device times (ms) of the first and last sample it rests on, or None while there are no such hours.
    Hours that end by ``after_ms`` have been looked at before. Hours that cannot be judged (too few samples) decide nothing.
    """
    evidence = prepare(samples, demo_site=demo_site)
    line = Timeline(evidence.readings, evidence.channels, card)
    next_look = after_ms + evidence.shift_ms + 1
    for first, last in _windows(line):
        if line.ts[last] < next_look or not _dirty(line, first, last):
            continue
        start, end = line.ts[first] - evidence.shift_ms, line.ts[last] - evidence.shift_ms
        verdict = judge(PROBATION, card, [r for r in samples if start <= r.ts <= end], demo_site=demo_site)
        if verdict.outcome in (Outcome.PASSED, Outcome.FAILED):
            return verdict, start, end
        next_look = line.ts[last] + STEP_MS
    return None


def _windows(line: Timeline) -> list[tuple[int, int]]:
    """(first, last row) of the 2 h of net active time that end at each row; a stop or a gap of more than 60 s breaks them."""
    found: list[tuple[int, int]] = []
    begin, first, stopped = 0, 0, None
    for row in range(line.size):
        if row and line.gap[row - 1] > GAP_MS:
            begin, stopped = row, None
        if line.active[row]:
            stopped = None
        elif stopped is None:
            stopped = line.ts[row]
        elif line.ts[row] - stopped > GAP_MS:
            begin = row + 1
        first = max(first, begin)
        while first < row and line.active_before[row] - line.active_before[first + 1] >= WINDOW_MS:
            first += 1
        if line.active[row] and first <= row and line.active_before[row] - line.active_before[first] >= WINDOW_MS:
            found.append((first, row))
    return found


def _dirty(line: Timeline, first: int, last: int) -> bool:
    """Whether a sensor's median is high in each of the two hours; sampled too slowly, they could not be judged anyway.

    Of both together would not do (EJ): while the air turns, the median behind the filter may lag the one before it.
    """
    if median_low(line.gap[first:last]) > MAX_INTERVAL_MS:
        return False
    middle = line.active_before[first] + WINDOW_MS // 2
    second = next(row for row in range(first, last + 1) if line.active_before[row] >= middle)
    hours = (slice(first, second), slice(second, last + 1))
    return any(all(_median(line, channel, hour) >= DIRTY_UGM3 for hour in hours) for channel in (PM_IN, PM_OUT))


def _median(line: Timeline, channel: str, rows: slice) -> float:
    seen = [v for v in line.numbers(channel)[rows] if v is not None]
    return median(seen) if seen else 0.0
