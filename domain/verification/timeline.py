"""The samples of a run as columns, their states, and a view of a part of them as it stood at one moment.

Times are device times in whole ms, so that sums are exact. A sample's state lasts until the next sample, 10 s at most; the
newest lasts 0 s: nothing is known after it (equipment.md §7.0, §7.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from statistics import median_low

from domain.catalogue.electrical import mains_span, normalised_w
from domain.catalogue.model import ModelCard
from domain.catalogue.plan_model import TestPlan
from domain.catalogue.registry import EQUIPMENT
from domain.detection.baseline import Baseline
from domain.detection.states import StateInference
from domain.readings import Reading, Value
from domain.verification.statistics import Picked

HELD_MS = 10_000
GAP_MS = 60_000
"""A longer silence, or a longer stop, restarts the count."""
MAX_INTERVAL_MS = 10_500
START_MS = 120_000
LOW_VOLTAGE = 0.3
"""Below this share of the rated voltage no normalised power is formed (EJ)."""

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Run:
    """All that is known of one test run: the plan's copy, the card, the samples, what was typed in."""

    plan: TestPlan
    card: ModelCard
    readings: tuple[Reading, ...]
    channels: frozenset[str]
    baseline: Baseline = field(default_factory=Baseline)
    entries: Mapping[str, float | bool] = field(default_factory=dict)
    target_l: float | None = None
    original_rule: str | None = None

    @cached_property
    def line(self) -> Timeline:
        """The samples as columns."""
        return Timeline(self.readings, self.channels, self.card)


class Timeline:
    """Columns over all samples of a run; row ``i`` is sample ``i``."""

    def __init__(self, readings: Sequence[Reading], channels: frozenset[str], card: ModelCard) -> None:
        self.readings, self.channels, self.card = readings, channels, card
        self.ts = [r.ts for r in readings]
        self.size = len(readings)
        self.gap = [b - a for a, b in zip(self.ts, self.ts[1:], strict=False)] + [0] * (self.size > 0)
        self.held = [min(g, HELD_MS) for g in self.gap]
        self.states = _states(readings, card)
        active = EQUIPMENT[card.type].active_states
        self.active = [state in active for state in self.states]
        worked = (held * on for held, on in zip(self.held, self.active, strict=True))
        self.active_before = list(accumulate(worked, initial=0))
        """Active ms before each row, over all rows."""
        self._columns: dict[str, list[Value | None]] = {}
        self._numbers: dict[str, list[float | None]] = {}

    def column(self, channel: str) -> Sequence[Value | None]:
        """The channel's value of each row, None where it is absent."""
        if channel not in self._columns:
            self._columns[channel] = [r.values.get(channel) for r in self.readings]
        return self._columns[channel]

    def numbers(self, channel: str) -> Numbers:
        """As ``column``, numbers only."""
        if channel not in self._numbers:
            self._numbers[channel] = [r.number(channel) for r in self.readings]
        return self._numbers[channel]

    def exists(self, channel: str) -> bool:
        """Whether the machine has this channel: it sent a value at least once, usable or not."""
        return channel in self.channels

    @cached_property
    def volts(self) -> tuple[Numbers, Numbers]:
        """Lowest and highest mains voltage of each row."""
        spans = [mains_span(r.values, self.card) for r in self.readings]
        return [_known(low) for low, _ in spans], [_known(high) for _, high in spans]

    @cached_property
    def volts_near(self) -> Numbers:
        """Mean mains voltage of each row, or of the one before it if that still holds."""
        found: list[float | None] = []
        last, last_ts = None, 0
        for ts, low, high in zip(self.ts, *self.volts, strict=True):
            if low is not None and high is not None:
                last, last_ts = (low + high) / 2, ts
            found.append(last if last is not None and ts - last_ts <= HELD_MS else None)
        return found

    @cached_property
    def normalised(self) -> Numbers:
        """Pn of each row in W, None without power or voltage."""
        floor = LOW_VOLTAGE * self.card.rated_v
        return [
            None if power is None or volts is None or volts <= floor else normalised_w(power, volts, self.card)
            for power, volts in zip(self.numbers("power_w"), self.volts_near, strict=True)
        ]

    @cached_property
    def levels(self) -> Sequence[int | None]:
        """The reported level of each row, counted from 1; None where there is none."""
        return [round(v) if v is not None and v >= 0.5 else None for v in self.numbers("level")]

    @cached_property
    def heater_on(self) -> Sequence[bool]:
        """In ``heating`` with the heater commanded; without the command channel, all of ``heating``."""
        commands = self.column("heater_on")
        return [s == "heating" and c is not False for s, c in zip(self.states, commands, strict=True)]

    @cached_property
    def valve_shut(self) -> Sequence[bool]:
        """By the command where it is known, else by states in which water may run."""
        last: Value | None = None
        shut = []
        for command, state in zip(self.column("inlet_valve"), self.states, strict=True):
            last = last if command is None else command
            shut.append(not last if last is not None else state not in ("filling", "grinding", "cleaning"))
        return shut

    @cached_property
    def runs(self) -> Sequence[tuple[str, int, int]]:
        """(state, first row, last row) of each unbroken stay in a state; a silence of more than 60 s breaks it."""
        found: list[tuple[str, int, int]] = []
        first = 0
        for i in range(1, self.size + 1):
            if i == self.size or self.states[i] != self.states[first] or self.gap[i - 1] > GAP_MS:
                found.append((self.states[first], first, i - 1))
                first = i
        return found


@dataclass(frozen=True)
class View:
    """Rows ``start`` … ``stop`` as they stood when ``stop`` was the newest.

    ``rest`` is the first row of the rest phase in force, ``rest_from`` where the active phase ended; None before that.
    ``after`` is a row behind a window that was closed before it: alarms are heard between windows too.
    """

    run: Run
    start: int
    stop: int
    rest: int | None = None
    rest_from: int | None = None
    after: int = -1

    @property
    def line(self) -> Timeline:
        return self.run.line

    @property
    def card(self) -> ModelCard:
        return self.run.card

    @property
    def rows(self) -> range:
        """All rows of the view."""
        return range(self.start, self.stop + 1)

    @property
    def now(self) -> int:
        """Device time of the newest row in ms."""
        return self.line.ts[self.stop]

    @cached_property
    def net_active_ms(self) -> int:
        """Unbroken active time of this view."""
        return self.line.active_before[self.stop] - self.line.active_before[self.start] if self.rows else 0

    @cached_property
    def complete(self) -> bool:
        """Whether the count has reached what the plan asks for."""
        return bool(self.rows) and self.net_active_ms >= self.run.plan.min_active_s * 1000

    @cached_property
    def interval_ms(self) -> int:
        """Median sampling interval; 0 with fewer than two rows."""
        gaps = self.line.gap[self.start : self.stop]
        return median_low(gaps) if gaps else 0

    def held(self, row: int) -> int:
        """How long a row's state lasted, in ms."""
        return self.line.held[row] if row < self.stop else 0

    def seconds(self, rows: Iterable[int]) -> float:
        """How long these rows lasted together."""
        return sum(map(self.held, rows)) / 1000.0

    def pick(self, rows: Iterable[int], column: Numbers) -> Picked:
        """The usable samples of ``column`` in ``rows``. A hole after a row belongs to that row's phase."""
        values: list[float] = []
        weights: list[int] = []
        span = 0
        gap, held, stop = self.line.gap, self.line.held, self.stop
        for row in rows:
            last = row >= stop
            span += 0 if last else gap[row]
            value = column[row]
            if value is not None:
                values.append(value)
                weights.append(0 if last else held[row])
        return Picked(values, weights, span / self.interval_ms if self.interval_ms else 0.0)

    def runs(self, state: str | None = None) -> Iterator[tuple[str, int, int]]:
        """Stays in a state (all, or one), clipped to the view."""
        for name, first, last in self.line.runs:
            if last >= self.start and first <= self.stop and state in (None, name):
                yield name, max(first, self.start), min(last, self.stop)

    @cached_property
    def settled(self) -> Sequence[int]:
        """Active rows without the first 120 s of the count and after each start (fresh-air units, equipment.md §7.2)."""
        line = self.line
        found: list[int] = []
        since: int | None = None
        for i in self.rows:
            if not line.active[i]:
                since = None
                continue
            since = line.ts[i] if since is None else since
            if line.states[i] != "starting" and line.ts[i] - since >= START_MS:
                found.append(i)
        return found

    @cached_property
    def counted(self) -> Sequence[int]:
        """The rows that coverage is measured on: the active phase, and the rest phase in force."""
        if self.rest is None or self.rest_from is None or self.rest <= self.rest_from:
            return self.rows
        return [*range(self.start, self.rest_from + 1), *range(self.rest, self.stop + 1)]

    @cached_property
    def coverage(self) -> float:
        """Share of the expected samples that are there (0…1)."""
        if not self.interval_ms:
            return 0.0
        span = present = 0
        for row, after in zip(self.counted, self.counted[1:], strict=False):
            if after == row + 1:
                span += self.line.gap[row]
                present += 1
        return min(1.0, present * self.interval_ms / span) if span else 0.0


def _states(readings: Sequence[Reading], card: ModelCard) -> list[str]:
    """What each sample says of the machine's state, else what it looks like. An unknown word is no state that counts.

    The inference believes a new signature after 10 s; looking back, the state began with the signature.
    """
    inference = StateInference(card)
    found: list[str] = []
    for row, reading in enumerate(readings):
        before, candidate = inference.state, inference.candidate
        state = inference.step(reading)
        if before != state == candidate:
            for earlier in range(row - 1, -1, -1):
                if readings[earlier].ts < inference.candidate_ts or "run_state" in readings[earlier].values:
                    break
                found[earlier] = state
        found.append(reading.text("run_state") or state)
    return found


def _known(value: float) -> float | None:
    return None if value != value else value
