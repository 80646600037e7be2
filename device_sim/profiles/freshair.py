"""Physics of a fresh-air unit: fan against filter, air through the filter, one room behind it, and imperfect sensors.

Numbers are engineering judgement (EJ) unless a source of equipment.md §12 is named. ``level`` counts from 1.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from device_sim.profiles.physics import Condition, Notice
from device_sim.site import TAU, Mains, OutdoorAir, Site
from domain.catalogue.model import ModelCard
from domain.readings import Value

START_S = 60.0
FILTER_SHARE = 0.5
"""The clean filter's share of the whole pressure drop at rated flow."""
BYPASS = 0.3
"""Share of the nameplate's penetration that goes round the filter instead of through it."""
MISSING_RESISTANCE = 0.12
"""Empty frame over a clean filter."""
MISSING_EFFICIENCY = 0.05
RATED_LIFE_H = 4320.0
"""180 days (a HEPA's full scale in [S32,S33])."""
AGEING = 0.06
"""Relative loss of the filter's efficiency at the end of its life."""
END_RESISTANCE = 1.9
"""Resistance of an honestly used-up filter over a clean one."""
CLOG_TAU_S = 900.0
ROOM_M3 = 200.0
LEAK_PER_H = 0.15
"""Air changes of the room without the unit."""
CO2_OUTDOOR = 420.0
CO2_M3H = 0.018
"""CO₂ of one sitting person."""
HEAT_RECOVERY = 0.70
DUCT_LAG_S = 20.0
LEVELS_DWELL_S = 330.0
HEATER_FROM_S, HEATER_UNTIL_S = 600.0, 1200.0
"""The program ``heater`` shows the fan alone, the heater, and the fan alone again."""
HEATER_LIFT_K = 6.0
AIR_WH_PER_M3K = 0.34


@dataclass(slots=True)
class FreshAirCondition(Condition):
    """Physical facts of a fresh-air unit; defaults are healthy. ``filter_change`` is a deed: a new filter goes in."""

    fan_works: bool = True
    clogging: float = 0.0
    filter_fitted: bool = True
    filter_change: bool = False
    pm_out_stuck: bool = False
    pm_swapped: bool = False


@dataclass(frozen=True, slots=True)
class DustSensor:
    """Laser dust sensor: a gain and an offset for life, noise, and never worse than the card's ±10 µg/m³ or ±10 % [S13]."""

    gain: float
    offset: float

    @classmethod
    def made(cls, rng: random.Random) -> DustSensor:
        """One specimen of the series."""
        return cls(rng.uniform(-0.06, 0.06), rng.uniform(-0.5, 4.0))

    def read(self, true: float, card: ModelCard, rng: random.Random) -> float:
        """Reported whole µg/m³, 0…999."""
        bound = max(card.sensor_err_abs, card.sensor_err_rel * true)
        error = self.gain * true + self.offset + rng.gauss(0.0, 0.8 + 0.012 * true)
        return float(round(min(999.0, max(0.0, true + min(bound, max(-bound, error))))))


def flow_share(resistance: float) -> float:
    """Airflow over the rated one when the filter has ``resistance`` times that of a clean one.

    The fan's curve 1.5 − 0.5 q² meets duct (q²) and filter (q^1.5, equipment.md R18); 1 at resistance 1.
    """
    low, high = 0.0, 1.5
    for _ in range(30):
        q = 0.5 * (low + high)
        surplus = 1.5 - 0.5 * q * q - (1.0 - FILTER_SHARE) * q * q - FILTER_SHARE * resistance * q**1.5
        low, high = (q, high) if surplus > 0 else (low, q)
    return 0.5 * (low + high)


class FreshAir:
    """One unit. ``level`` fixes the fan level (None: by the hour, as its owner likes it)."""

    programs: tuple[str, ...] = ("top", "levels", "heater")

    def __init__(
        self, card: ModelCard, site: Site, outdoor: OutdoorAir, rng: random.Random, *, level: int | None = None
    ) -> None:
        self.card, self.site, self.outdoor, self.rng = card, site, outdoor, rng
        self.levels = len(card.p_fan_w)
        if level is not None and not 0 <= level <= self.levels:
            raise ValueError(f"level must be 0…{self.levels}, not {level}")
        self._wanted = level
        self._condition = FreshAirCondition()
        self._mains = Mains(rng)
        self._power_gain = rng.uniform(0.96, 1.04)
        self._speed_gain = rng.uniform(0.985, 1.015)
        self._flow_gain = rng.uniform(0.98, 1.03)
        self._dp_gain = rng.uniform(0.95, 1.05)
        self._sensors = DustSensor.made(rng), DustSensor.made(rng)
        self._co2_bias = rng.uniform(-30.0, 30.0)
        self._crowd_phase = rng.uniform(-0.5, 0.5)
        self.used_h = RATED_LIFE_H * rng.uniform(0.03, 0.35)
        self.resistance = self._honest_resistance()

        self.state, self.level = "standby", 0
        self.voltage_v, self.power_w, self.airflow_m3h, self.rpm, self.dp_pa = card.rated_v, 0.0, 0.0, 0.0, 0.0
        self.pm25_in: float | None = None
        self.pm25_supply = self.pm25_room = 0.6 * site.pm25_median
        self.co2_ppm = 600.0
        self.energy_kwh = 0.0
        self._out_reading: float | None = None
        self._share_for = (-1.0, 1.0)
        self._state_s = 0.0
        self._program = ""
        self._program_s = 0.0
        self._uptime_ms = 0

    # ------------------------------------------------------------------ what the protocol side asks

    @property
    def condition(self) -> FreshAirCondition:
        """The facts that faults change."""
        return self._condition

    def max_step_ms(self, now_ms: int) -> int:
        """30 s; every balance below is exact for constant surroundings, and those move slowly."""
        return 5_000 if self.state == "starting" or self._condition.clogging else 30_000

    def signature(self) -> tuple[object, ...]:
        """State and level."""
        return self.state, self.level

    def notices(self) -> list[Notice]:
        """This board has no codes of its own."""
        return []

    def power_on(self, now_ms: int) -> None:
        """The board starts in standby; it finds its level at the next step."""
        self.state, self.level, self._program, self._uptime_ms = "standby", 0, "", 0

    def start_test(self, program: str, now_ms: int, active_s: float = 0.0) -> None:
        """``top``: the highest level throughout; ``levels``: 5.5 min of each, then the highest; ``heater``: 10 min of it."""
        self._program, self._program_s = program, 0.0
        self.state, self.level = "standby", 0

    def end_test(self) -> None:
        """The owner's level again."""
        self._program = ""

    def stop(self) -> None:
        """The test ends; the fan starts anew at its owner's level."""
        self._program = ""
        self.state, self.level = "standby", 0

    def acknowledge(self) -> None:
        """This board latches nothing."""

    # ------------------------------------------------------------------ time

    def step(self, now_ms: int, dt_ms: int) -> None:
        """Board, fan and filter, then the air in duct and room, for ``dt_ms``."""
        dt = dt_ms / 1000.0
        condition, card = self._condition, self.card
        self._wear(dt)
        self.pm25_in = self.outdoor.pm25(now_ms + dt_ms)
        if condition.powered:
            self._uptime_ms += dt_ms
            self._run_board(now_ms, dt)
            factor = self._mains.factor(now_ms) * condition.mains_factor
        else:
            self.state, self.level, factor = "off", 0, 0.0
        self.voltage_v = factor * card.rated_v
        if self.level and condition.fan_works:
            row, share = self.level - 1, self._share()
            spin = min(1.0, self._state_s / 20.0) if self.state == "starting" else 1.0
            self.airflow_m3h = card.airflow_m3h[row] * share * self._flow_gain * spin
            self.rpm = card.rpm[row] * self._speed_gain * (1.0 + 0.05 * (1.0 - share)) * spin
            fan_w = card.p_fan_w[row] * (0.55 + 0.45 * share) * self._power_gain * factor**0.3 * max(0.1, spin)
        else:
            self.airflow_m3h = self.rpm = fan_w = 0.0
        top = card.airflow_m3h[-1]
        self.dp_pa = card.dp_clean_pa * self._dp_gain * self._effective_resistance() * (self.airflow_m3h / top) ** 1.5
        if self._heating():
            fan_w += AIR_WH_PER_M3K * self.airflow_m3h * HEATER_LIFT_K
        self.power_w = (max(fan_w, card.p_standby_w) if self.level else card.p_standby_w) if factor else 0.0
        self.energy_kwh += self.power_w * dt / 3.6e6
        self._move_air(now_ms, dt)

    def _run_board(self, now_ms: int, dt: float) -> None:
        self._state_s += dt
        level = self._wanted_level(now_ms, dt)
        if level == 0:
            self._rest()
        elif self.level == 0:
            self._enter("starting")
        elif self.state == "starting" and self._state_s >= START_S:
            self._enter("running")
        self.level = level

    def _rest(self) -> None:
        if self.state != "standby":
            self._enter("standby")

    def _enter(self, state: str) -> None:
        self.state, self._state_s = state, 0.0

    def _wanted_level(self, now_ms: int, dt: float) -> int:
        if self._program:
            self._program_s += dt
            if self._program == "levels":
                return min(self.levels, 1 + int(self._program_s // LEVELS_DWELL_S))
            return self.levels
        if self._wanted is not None:
            return self._wanted
        hour = self.site.local_hour(now_ms)
        busy = 7.0 <= hour < 9.0 or 11.0 <= hour < 13.5 or 17.0 <= hour < 19.5
        return self.levels if busy else (min(2, self.levels) if 6.0 <= hour < 22.0 else 1)

    def _heating(self) -> bool:
        """Only test mode switches the electric heater on; an owner's winter is not simulated."""
        within = HEATER_FROM_S <= self._program_s < HEATER_UNTIL_S
        return self._program == "heater" and within and self.airflow_m3h > 0

    def _honest_resistance(self) -> float:
        return 1.0 + (END_RESISTANCE - 1.0) * min(1.2, self.used_h / RATED_LIFE_H) ** 2

    def _effective_resistance(self) -> float:
        return self.resistance if self._condition.filter_fitted else MISSING_RESISTANCE

    def _share(self) -> float:
        resistance = round(self._effective_resistance(), 3)
        if self._share_for[0] != resistance:
            self._share_for = resistance, flow_share(resistance)
        return self._share_for[1]

    def _wear(self, dt: float) -> None:
        condition = self._condition
        if condition.filter_change:
            condition.filter_change, self.used_h = False, 0.0
            self.resistance = 1.0
        if self.level:
            self.used_h += dt / 3600.0
        honest = self._honest_resistance()
        goal = honest + condition.clogging
        clog = 1.0 - math.exp(-dt / CLOG_TAU_S) if condition.clogging else 1.0
        self.resistance += (goal - self.resistance) * clog

    def _efficiency(self) -> float:
        if not self._condition.filter_fitted:
            return MISSING_EFFICIENCY
        through = (1.0 - self.card.eta_pm25) * (1.0 - BYPASS)
        media = (1.0 - through) * (1.0 - AGEING * min(1.2, self.used_h / RATED_LIFE_H) ** 2)
        return media - (1.0 - self.card.eta_pm25) * BYPASS

    def _people(self, now_ms: int) -> float:
        hour = self.site.local_hour(now_ms) + self._crowd_phase
        return 6.0 if 8.0 <= hour < 18.0 else (2.0 if 18.0 <= hour < 22.0 else 0.0)

    def _move_air(self, now_ms: int, dt: float) -> None:
        """One room, well mixed, exact over the step; the duct follows what leaves the filter."""
        per_h = self.airflow_m3h / ROOM_M3
        total = per_h + LEAK_PER_H
        fading = math.exp(-total * dt / 3600.0)
        co2 = CO2_OUTDOOR + 1e6 * CO2_M3H * self._people(now_ms) / (total * ROOM_M3)
        self.co2_ppm = co2 + (self.co2_ppm - co2) * fading
        if self.pm25_in is None:
            return
        behind = (1.0 - self._efficiency()) * self.pm25_in if self.airflow_m3h else self.pm25_room
        self.pm25_supply += (behind - self.pm25_supply) * (1.0 - math.exp(-dt / DUCT_LAG_S))
        room = (per_h * behind + LEAK_PER_H * 0.8 * self.pm25_in) / total
        self.pm25_room = room + (self.pm25_room - room) * fading

    # ------------------------------------------------------------------ what it reports

    def sample(self, now_ms: int) -> dict[str, Value]:
        """Channels of equipment.md §2.1 and §2.3. Where a recorded outdoor series has a hole, both PM channels are absent."""
        gauss, condition, card = self.rng.gauss, self._condition, self.card
        outside, room = self.outdoor.temp_c(now_ms), self._room_c(now_ms)
        supply = outside + HEAT_RECOVERY * (room - outside) if self.airflow_m3h else room
        if self._heating():
            supply += HEATER_LIFT_K
        voltage = self.voltage_v * (1.0 + gauss(0.0, 0.001))
        power = float(round(self.power_w * (1.0 + gauss(0.0, 0.004))))
        values: dict[str, Value] = {
            "run_state": self.state,
            "mode": "test" if self._program else ("auto" if self._wanted is None else "manual"),
            "level": float(self.level),
            "voltage_v": round(voltage, 1),
            "power_w": power,
            "current_a": round(self.power_w / 0.6 / voltage, 2) if voltage else 0.0,
            "energy_kwh": round(self.energy_kwh, 3),
            "airflow_m3h": float(round(self.airflow_m3h * (1.0 + gauss(0.0, 0.01)))),
            "fan_supply_rpm": float(round(self.rpm * (1.0 + gauss(0.0, 0.003)))),
            "filter_dp_pa": float(round(max(0.0, self.dp_pa * (1.0 + gauss(0.0, 0.01))))),
            "filter_life_pct": float(round(max(0.0, 100.0 * (1.0 - self.used_h / RATED_LIFE_H)))),
            "filter_used_h": float(int(self.used_h)),
            "co2_in_ppm": float(round(max(400.0, self.co2_ppm + self._co2_bias + gauss(0.0, 6.0)))),
            "temp_out_c": round(outside + gauss(0.0, 0.1), 1),
            "temp_supply_c": round(supply + gauss(0.0, 0.1), 1),
            "temp_room_c": round(room + gauss(0.0, 0.1), 1),
            "rh_out_pct": float(round(self.outdoor.rh_pct(now_ms) + gauss(0.0, 1.0))),
            "uptime_s": float(self._uptime_ms // 1000),
        }
        if self._program == "heater":
            values["ptc_on"] = self._heating()
        if self.pm25_in is not None:
            behind = self.pm25_room if card.pm25_out_at == "room" else self.pm25_supply
            before = self._sensors[0].read(self.pm25_in, card, self.rng)
            after = self._sensors[1].read(behind, card, self.rng)
            if condition.pm_out_stuck and self._out_reading is not None:
                after = self._out_reading
            self._out_reading = after
            if condition.pm_swapped:
                before, after = after, before
            values["pm25_in_ugm3"], values["pm25_out_ugm3"] = before, after
        return values

    def _room_c(self, now_ms: int) -> float:
        return self.site.room_c + 1.0 * math.sin(TAU * (self.site.local_hour(now_ms) - 9.0) / 24.0)
