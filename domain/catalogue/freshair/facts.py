"""Figures of a fresh-air unit that the rules speak of: air before and behind the filter, the fan, the filter."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from math import nan

from domain.catalogue.facts import LEFT_ALONE_MS, Facts, Memory
from domain.catalogue.freshair.efficiency import eta_min
from domain.catalogue.model import ModelCard
from domain.readings import Reading

MEDIAN_MS = 300_000
"""PM2.5 is judged by medians of the last 5 minutes, against spikes (EJ)."""
WARM_MS = 600_000
"""PM sensors need 10 min after their first power-up of the day (EJ)."""
PM_ASLEEP_MS = 3_600_000
"""PM sensors that said nothing for an hour were without power (EJ)."""
_RUNNING = frozenset(("starting", "running", "preheating"))


class RollingMedian(Memory):
    """Median of the last 5 minutes, and of no fewer than the last 5 samples; nan before there are 3."""

    __slots__ = ("ordered", "samples")
    MEMORY = ("ordered", "samples")

    def __init__(self) -> None:
        self.samples: deque[list[float]] = deque()
        self.ordered: list[float] = []

    def add(self, ts: int, value: float) -> float:
        """Take in ``value`` and return the median."""
        self.samples.append([ts, value])
        insort(self.ordered, value)
        while len(self.samples) > 5 and self.samples[0][0] < ts - MEDIAN_MS:
            del self.ordered[bisect_left(self.ordered, self.samples.popleft()[1])]
        return self.ordered[len(self.ordered) // 2] if len(self.ordered) >= 3 else nan

    def clear(self) -> None:
        """Forget all."""
        self.samples.clear()
        self.ordered.clear()


class Stillness(Memory):
    """How long a sensor has shown one figure, and how far its partner went in that time."""

    __slots__ = ("high", "low", "partner_high", "partner_low", "since")
    MEMORY = ("high", "low", "partner_high", "partner_low", "since")

    def __init__(self) -> None:
        self.since: int | None = None
        self.low = self.high = self.partner_low = self.partner_high = 0.0

    def follow(self, ts: int, value: float, partner: float) -> None:
        """Take in one paired sample."""
        if self.since is None or value != self.low:
            self.since, self.low, self.partner_low, self.partner_high = ts, value, partner, partner
        elif partner < self.partner_low:
            self.partner_low = partner
        elif partner > self.partner_high:
            self.partner_high = partner

    @property
    def partner_range(self) -> float:
        """µg/m³."""
        return self.partner_high - self.partner_low


class FreshairFacts(Facts):
    """``c_in``/``c_out``: 5-minute medians of PM2.5 in µg/m³ while running; ``eta`` and its limit ``eta_low`` (0…1), nan where
    the formula says nothing; ``spin``/``draw``: the fan's speed and power as a share of what its level asks for; ``dp``: filter
    pressure in Pa, scaled to the rated flow.
    """

    __slots__ = (
        "airflow", "c_in", "c_out", "dp", "draw", "eta", "eta_low", "filter_life", "median_in", "median_out", "pm_ts",
        "pm_warm_at", "rh", "spin", "still_in", "still_out", "supply",
    )  # fmt: skip
    MEMORY = (*Facts.MEMORY, "pm_ts", "pm_warm_at")

    def __init__(self, card: ModelCard, reference: Mapping[str, float]) -> None:
        super().__init__(card, reference)
        self.airflow = self.c_in = self.c_out = self.dp = self.draw = self.eta = self.eta_low = nan
        self.filter_life = self.rh = self.spin = self.supply = nan
        self.median_in, self.median_out = RollingMedian(), RollingMedian()
        self.still_in, self.still_out = Stillness(), Stillness()
        self.pm_ts: int | None = None
        self.pm_warm_at = 0

    def dump(self) -> dict[str, object]:
        """JSON-able memory."""
        return {**super().dump(), **{name: getattr(self, name).dump() for name in _PARTS}}

    def restore(self, dumped: Mapping[str, object]) -> FreshairFacts:
        """Take over what ``dump`` wrote."""
        super().restore(dumped)
        for name in _PARTS:
            part = dumped.get(name)
            if isinstance(part, dict):
                getattr(self, name).restore(part)
        return self

    def update(self, reading: Reading, state: str, pn: float) -> None:
        """Take in the next sample in order of time."""
        super().update(reading, state, pn)
        self.airflow, self.filter_life = self.num("airflow_m3h"), self.num("filter_life_pct")
        self.supply = self.num("temp_supply_c")
        self.rh = self.num("rh_out_pct")
        self._follow_fan()
        self._follow_filter()
        self._follow_air(self.num("pm25_in_ugm3"), self.num("pm25_out_ugm3"))

    @property
    def running(self) -> bool:
        """Air is being moved."""
        return self.state in ("running", "preheating")

    @property
    def fan_wanted(self) -> bool:
        """The fan is commanded on: the state says so, or a power above idle from which it was inferred."""
        return self.state in _RUNNING

    @property
    def fan_on(self) -> bool:
        """The fan turns, seen by speed or flow, else by power."""
        return self.spin >= 0.2 if self.spin == self.spin else self.draw >= 0.3

    @property
    def pm_ready(self) -> bool:
        """Both PM sensors are warm, and the air is moved."""
        return self.running and self.ts >= self.pm_warm_at

    @property
    def dirtier_behind(self) -> bool:
        """A-T8, away from fog (PM sensors read high in it)."""
        return self.c_out > self.c_in + 20.0 and not self.rh >= 90.0

    def rated(self, by_level: tuple[float, ...]) -> float:
        """The card's figure for the present level, for level 1 where none is reported; nan where the card has none."""
        if not by_level:
            return nan
        nth = int(self.level) - 1 if self.level >= 1 else 0
        return by_level[min(nth, len(by_level) - 1)] or nan

    @property
    def airflow_share(self) -> float:
        """Air moved as a share of what the reported level asks for; nan where no level is reported."""
        return self.airflow / self.rated(self.card.airflow_m3h) if self.level >= 1 else nan

    @property
    def stuck_before(self) -> bool:
        """A-T6 of the sensor before the filter."""
        return self._stuck(behind=False)

    @property
    def stuck_behind(self) -> bool:
        """A-T6 of the sensor behind the filter."""
        return self._stuck(behind=True)

    def _stuck(self, *, behind: bool) -> bool:
        """A-T6 of the sensor before or ``behind`` the filter: ±0 for 60 min while the partner moves by more than 10, and by
        enough to be seen through the filter; or 999, or an incredible 0, for 30 min.
        """
        still, through = (self.still_out, 1.0 - self.card.eta_pm25) if behind else (self.still_in, 1.0)
        if still.since is None:
            return False
        flat_ms, moved, value = self.ts - still.since, still.partner_range, still.low
        if flat_ms >= 1_800_000 and (
            value >= 999 or (value <= 0 and still.partner_low * through >= (5.0 if behind else 10.0))
        ):
            return True
        if flat_ms < 3_600_000 or moved <= 10.0:
            return False
        # a healthy sensor behind a good filter shows whole µg/m³ and may rest; so ask what its own share of the change would be
        return not behind or value * moved / still.partner_high >= 1.5 or through * moved >= 5.0

    def _follow_fan(self) -> None:
        rpm, card = self.num("fan_supply_rpm"), self.card
        self.spin = rpm / self.rated(card.rpm) if card.rpm else nan
        if self.spin != self.spin:
            self.spin = self.airflow / self.rated(card.airflow_m3h)
        # with the electric heater on, power says nothing about the fan
        heater = self.state == "preheating" or self.flag("ptc_on")
        self.draw = nan if heater else self.power / self.rated(card.p_fan_w)

    def _follow_filter(self) -> None:
        self.dp = self.num("filter_dp_pa")
        most = self.card.airflow_m3h[-1] if self.card.airflow_m3h else 0.0
        if self.airflow == self.airflow and most:
            share = self.airflow / most
            # below a third of the rated flow the correction magnifies noise (EJ)
            self.dp = self.dp / share**1.5 if share > 0.3 else nan

    def _follow_air(self, before: float, behind: float) -> None:
        if before == before or behind == behind:
            if self.pm_ts is None or self.ts - self.pm_ts > PM_ASLEEP_MS:
                self.pm_warm_at = self.ts + WARM_MS
            self.pm_ts = self.ts
        if not self.pm_ready or self.dt_ms > max(LEFT_ALONE_MS, MEDIAN_MS):
            self.median_in.clear()
            self.median_out.clear()
            self.still_in.since = self.still_out.since = None
        self.c_in = self.c_out = self.eta = self.eta_low = nan
        if not self.pm_ready or before != before or behind != behind:
            return
        self.c_in, self.c_out = self.median_in.add(self.ts, before), self.median_out.add(self.ts, behind)
        self.still_in.follow(self.ts, before, behind)
        self.still_out.follow(self.ts, behind, before)
        card = self.card
        if card.pm25_out_at == "supply" and card.eta_pm25 > 0 and self.c_in > 0:
            self.eta = 1.0 - self.c_out / self.c_in
            self.eta_low = eta_min(self.c_in, card.eta_pm25, card.sensor_err_abs, card.sensor_err_rel)


_PARTS = ("median_in", "median_out", "still_in", "still_out")
