"""Figures of a soy-milk machine that the rules speak of, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import nan

from domain.catalogue.common import PHASES
from domain.catalogue.facts import LEFT_ALONE_MS, Facts
from domain.catalogue.model import ModelCard
from domain.readings import Reading

HOLD_MS = 300_000
"""True boil must be held this long [S4,S5,S6]."""
_PREPARING = frozenset(("filling", "soaking", "grinding"))
_HOT = frozenset(("heating", "boil_hold"))
_IDLE = frozenset(("standby", "off"))
_ACTIVE_AGAIN = frozenset(("standby", "off", "offline", "dispensing", "cleaning", ""))
_INTERRUPTIONS = frozenset(("paused", "fault"))
_DIP_MS, _DIP_K = 10_000, 0.5
_FLAT_K, _FLAT_SAMPLES = 0.2, 18
"""±0.1 K; 12 samples in the window and 6 in a row that confirm [S23]."""


class SoymilkFacts(Facts):
    """``flow`` L/min, ``temp`` °C; ``trips`` of the overflow electrode in this batch; ``bad_batch``: left without its boil hold
    (R11); ``flat_ms``: how long the probe has shown one figure while the heater was on; ``heat_due_ms``: how long the machine
    has been idle after a grind that should be followed by heat, where it does not report its states.
    """

    __slots__ = (
        "above", "bad_batch", "batch_id", "best_ms", "bridged", "dip_since", "ever_reported", "fill_seen", "flat_hi", "flat_lo",
        "flat_ms", "flat_n", "flat_since", "flow", "grind_ms", "heat_due_ms", "heater_on", "hold_s", "hot_seen",
        "idle_since", "judged", "last_below", "lid", "motor_on", "motor_since", "overflow", "phase", "standby_from", "temp",
        "temp_ts", "temps", "trips", "valve", "was_overflow",
    )  # fmt: skip
    MEMORY = (
        *Facts.MEMORY, "above", "bad_batch", "batch_id", "best_ms", "dip_since", "ever_reported", "fill_seen", "flat_hi",
        "flat_lo", "flat_n", "flat_since", "grind_ms", "hold_s", "hot_seen", "idle_since", "judged", "last_below",
        "motor_since", "phase", "standby_from", "temp_ts", "temps", "trips", "was_overflow",
    )  # fmt: skip
    CONSTANT = Facts.CONSTANT | {"element_lost_below", "heat_ref_w"}

    def __init__(self, card: ModelCard, reference: Mapping[str, float]) -> None:
        super().__init__(card, reference)
        self.flow = self.temp = nan
        self.valve: bool | None = None
        self.heater_on: bool | None = None
        self.motor_on: bool | None = None
        self.lid: bool | None = None
        self.overflow: bool | None = None
        self.was_overflow = False
        self.motor_since: int | None = None
        # the batch
        self.phase = ""
        self.batch_id: str | None = None
        self.trips = 0
        self.hot_seen = self.judged = self.bad_batch = False
        self.standby_from: int | None = None
        # the boil
        self.temps: deque[float] = deque(maxlen=3)
        self.temp_ts: int | None = None
        self.last_below: int | None = None
        self.above = False
        self.best_ms = 0
        self.hold_s = 0.0
        self.dip_since: int | None = None
        # the probe
        self.flat_since: int | None = None
        self.flat_lo = self.flat_hi = 0.0
        self.flat_n = self.flat_ms = 0
        # what should come next, where no state is reported
        self.ever_reported = self.fill_seen = False
        self.grind_ms = self.heat_due_ms = 0
        self.idle_since: int | None = None

    def update(self, reading: Reading, state: str, pn: float) -> None:
        """Take in the next sample in order of time."""
        super().update(reading, state, pn)
        self.flow, self.temp = self.num("water_flow_lpm"), self.num("temp_c")
        self.valve, self.heater_on, self.motor_on = (
            self.flag("inlet_valve"),
            self.flag("heater_on"),
            self.flag("motor_on"),
        )
        self.lid, self.overflow = self.flag("lid_open"), self.flag("overflow_electrode")
        self._follow_batch()
        if self.temp == self.temp:
            self._follow_boil()
            self._follow_probe()
        if state != "heating":
            self.flat_since, self.flat_ms = None, 0
        if self.overflow is not None:
            self.trips += self.overflow and not self.was_overflow
            self.was_overflow = self.overflow
        running = self.motor_on if self.motor_on is not None else state == "grinding"
        self.motor_since = (self.motor_since if self.motor_since is not None else self.ts) if running else None
        self.ever_reported = self.ever_reported or self.reported
        if not self.ever_reported:
            self._expect_heat()

    @property
    def implausible(self) -> bool:
        """The probe of a machine with water in it shows −5…125 °C (S-T7)."""
        return self.temp < -5.0 or self.temp > 125.0

    @property
    def heater_commanded(self) -> bool:
        """The heater is wanted: its command says so, or (where there is none) the reported state heating."""
        return self.heater_on is True or (self.heater_on is None and self.state == "heating" and self.reported)

    @property
    def motor_runs(self) -> bool:
        """The motor is wanted, alone, and past its inrush of 1 s; a state that was only inferred proves nothing."""
        return (
            (self.motor_on is True or (self.motor_on is None and self.state == "grinding" and self.reported))
            and self.heater_on is not True
            and self.motor_since is not None
            and self.ts - self.motor_since >= 1000
        )

    @property
    def filling(self) -> bool:
        """Water is wanted."""
        return self.valve if self.valve is not None else self.state == "filling"

    @property
    def idle(self) -> bool:
        """The valve must be shut: it says so itself, or the machine does nothing."""
        if self.valve is not None:
            return not self.valve and self.state not in ("filling", "cleaning")
        return self.state in _IDLE and (self.reported or self.power == self.power)

    @property
    def cycle_wanted(self) -> bool:
        """Somebody wants the machine to work, whether it does or not."""
        return self.state not in _IDLE and self.state not in ("", "offline", "test")

    @property
    def heat_ref_w(self) -> float:
        """Healthy heating power in W: the unit's own, else the rated one."""
        return self.reference.get("heating") or self.card.p_heat_w

    @property
    def imbalance(self) -> float:
        """(max − min) / mean of the three phase currents; nan where one is absent or nothing flows."""
        a, b, c = (self.num(f"current_a_{phase}") for phase in PHASES)
        mean = (a + b + c) / 3  # not sum(): from Python 3.12 on it rounds in another way than the compiled core
        return (max(a, b, c) - min(a, b, c)) / mean if mean > 0 else nan

    @property
    def element_lost_below(self) -> float:
        """Half-way between a healthy heater of n parallel elements and one with an element open [S15] (share of healthy)."""
        n = max(1, self.card.heater_elements)
        return 0.5 * (1.0 + (n - 1) / n)

    def _follow_batch(self) -> None:
        state, batch = self.state, self.values.get("batch_id")
        if isinstance(batch, str) and batch != self.batch_id:
            if self.batch_id is not None:
                self._begin_batch()
            self.batch_id = batch
        if state in _INTERRUPTIONS:
            return
        if state != self.phase:
            if (state in _PREPARING and self.phase not in _PREPARING) or (
                state == "heating" and self.phase in _ACTIVE_AGAIN
            ):
                self._begin_batch()
            self.standby_from = self.ts if state in _IDLE and self.phase in ("boil_hold", "keep_warm") else None
            self.phase = state
            if state == "dispensing":
                self._end_batch(self.ts)
        if state in _HOT:
            self.hot_seen = True
        elif self.standby_from is not None and self.ts - self.standby_from >= 60_000:
            self._end_batch(self.standby_from)
            self.standby_from = None

    def _begin_batch(self) -> None:
        self.trips = 0
        self.hot_seen = self.judged = self.above = False
        self.last_below, self.best_ms, self.dip_since = None, 0, None

    def _end_batch(self, at: int) -> None:
        """Was the boil held? Only what was seen below the boil can say no: holes count as held (§7.5)."""
        if self.judged or not self.hot_seen or (self.last_below is None and not self.above):
            return
        self.judged = True
        if self.last_below is None:
            self.bad_batch = False
        else:
            held_ms = max(self.best_ms, at - self.last_below if self.above else 0)
            self.hold_s = held_ms / 1000
            self.bad_batch = held_ms < HOLD_MS

    def _follow_boil(self) -> None:
        self.temps.append(self.temp)
        temp, boil = sorted(self.temps)[len(self.temps) // 2], self.card.boiling_c - 2.0
        hole = self.temp_ts is not None and self.ts - self.temp_ts > LEFT_ALONE_MS
        self.temp_ts = self.ts
        if temp >= boil:
            self.above, self.dip_since = True, None
            return
        if self.above and temp >= boil - _DIP_K:
            self.dip_since = self.ts if self.dip_since is None else self.dip_since
            if self.ts - self.dip_since <= _DIP_MS:
                return
        if self.last_below is None:
            self.best_ms = HOLD_MS if self.above else 0
        elif self.above or hole:
            self.best_ms = max(self.best_ms, self.ts - self.last_below)
        self.last_below, self.above, self.dip_since = self.ts, False, None

    def _follow_probe(self) -> None:
        if self.state != "heating" or not self.pn > 0.5 * self.card.p_heat_w or self.temp >= self.card.boiling_c - 5.0:
            self.flat_since, self.flat_ms = None, 0
            return
        low, high = min(self.flat_lo, self.temp), max(self.flat_hi, self.temp)
        if self.flat_since is None or high - low > _FLAT_K or self.dt_ms > LEFT_ALONE_MS:
            self.flat_since, self.flat_lo, self.flat_hi, self.flat_n = self.ts, self.temp, self.temp, 0
        else:
            self.flat_lo, self.flat_hi = low, high
        self.flat_n += 1
        self.flat_ms = self.ts - self.flat_since if self.flat_n >= _FLAT_SAMPLES else 0

    def _expect_heat(self) -> None:
        """After a fill and a minute of grinding comes heat. A rinse turns the mill without load (EJ: < 0.7 Pm), or settles it."""
        self.fill_seen = self.fill_seen or self.state == "filling"
        if self.state in ("heating", "boil_hold", "keep_warm", "cleaning"):
            self.grind_ms, self.fill_seen = 0, False
        elif self.state == "grinding" and self.power >= 0.7 * self.card.p_motor_w and self.dt_ms <= LEFT_ALONE_MS:
            self.grind_ms += self.dt_ms
        idle = self.state in _IDLE and self.fill_seen and self.grind_ms >= 60_000
        if not idle or self.dt_ms > LEFT_ALONE_MS:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self.ts
        self.heat_due_ms = self.ts - self.idle_since if self.idle_since is not None else 0
