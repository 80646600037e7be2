"""What a machine is doing: what it says, else what its power, water and temperature look like (equipment.md §3).

A signature never uses the limit of a fault: a heater that lost one element of three is still heating.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice, zip_longest
from math import log, nan
from statistics import fmean, pstdev

from domain.catalogue.electrical import mains_span, normalised_w
from domain.catalogue.facts import Memory
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.readings import Reading, Value

HOLD_MS = 10_000
"""A new signature must last this long before it counts (EJ)."""
FORGET_MS = 60_000
"""After a hole longer than this the former state is no evidence: the signature counts at once (EJ)."""
VOLTAGE_KEEP_MS = 90_000
"""A voltage may come in an object of its own and normalises the power of the next ones for so long (EJ)."""
DUTY_MS = 600_000
_IDLE = ("off", "standby", "")
_HOT = ("heating", "boil_hold", "keep_warm")


class StateInference(Memory):
    """Feed it a machine's samples in order of time. A pure fold: no clock, and ``dump``/``restore`` lose nothing."""

    __slots__ = (
        "_idle_w", "_signature", "_states", "_valve_w", "boiled", "candidate", "candidate_ts", "card", "edges", "heated",
        "hot_ts", "last_ts", "pn", "powers", "state", "volts", "volts_ts", "warm_ts",
    )  # fmt: skip
    MEMORY = (
        "boiled", "candidate", "candidate_ts", "edges", "heated", "hot_ts", "last_ts", "powers", "state", "volts", "volts_ts",
        "warm_ts",
    )  # fmt: skip

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._states = frozenset(EQUIPMENT[card.type].states)
        self._signature: Callable[[int, Mapping[str, Value]], str | None] = (
            self._freshair if card.type == "freshair" else self._soymilk
        )
        fan_idle = max(1.5 * card.p_standby_w, 0.3 * card.p_fan_w[0]) if card.p_fan_w else 0.0
        self._idle_w = fan_idle or max(15.0, 1.5 * card.p_standby_w)
        self._valve_w = card.p_standby_w + 30.0
        self.pn = nan
        self.state = ""
        self.candidate, self.candidate_ts = "", 0
        self.last_ts: int | None = None
        self.volts: float | None = None
        self.volts_ts = 0
        self.powers: deque[float] = deque(maxlen=6)
        self.edges: deque[int] = deque()
        """Times at which the heater switched: on at even, off at odd places (kept in pairs)."""
        self.hot_ts: int | None = None
        self.warm_ts: int | None = None
        """When the heater last kept something warm: a short burst between 60 °C and the boil."""
        self.heated = self.boiled = False

    def step(self, reading: Reading) -> str:
        """The state of this sample, one of the type's states; ``standby`` as long as nothing at all is known."""
        ts, values = reading.ts, reading.values
        power, volts = reading.number("power_w"), mains_span(values, self.card)
        if volts[0] > 0:
            self.volts, self.volts_ts = (volts[0] + volts[1]) / 2, ts
        fresh = self.volts is not None and ts - self.volts_ts <= VOLTAGE_KEEP_MS
        self.pn = nan if power is None else normalised_w(power, self.volts if fresh and self.volts else nan, self.card)
        hole = self.last_ts is None or ts - self.last_ts > FORGET_MS
        self.last_ts = ts
        reported = values.get("run_state")
        if reported in self._states:
            self.state = self.candidate = str(reported)
            self.heated = self.state in _HOT or (self.heated and self.state not in ("filling", "grinding"))
            return self.state
        found = self._signature(ts, values)
        if found is None or found == self.state:
            self.candidate = self.state
        elif hole or not self.state:
            self.state = self.candidate = found
        elif found != self.candidate:
            self.candidate, self.candidate_ts = found, ts
        elif ts - self.candidate_ts >= HOLD_MS:
            self.state = found
        return self.state or "standby"

    def _soymilk(self, ts: int, values: Mapping[str, Value]) -> str | None:
        """Soy-milk machine: the state that this sample looks like, None where it looks like none."""
        power, temp = values.get("power_w"), _number(values, "temp_c")
        flowing = _number(values, "water_flow_lpm") >= 0.5
        if values.get("inlet_valve") is True:
            flowing = True
        if not isinstance(power, (int, float)):
            heating = values.get("heater_on") is True
            grinding = values.get("motor_on") is True
            return "heating" if heating else "grinding" if grinding else "filling" if flowing else None
        self.powers.append(float(power))
        load = self._load(float(power), values)
        self._note_heater(ts, load == "heat")
        if load == "motor":
            if flowing and self.heated and not temp >= 60:
                return "cleaning"
            self.heated = self.boiled = False
            return "grinding"
        hot = self._cooking(ts, temp, load == "heat")
        if hot is not None:
            self.heated = True
            return hot
        if flowing or (load == "valve" and "water_flow_lpm" not in values):
            return "filling"
        if load not in ("idle", "valve"):
            return None
        if values.get("lid_open") is True and self.state not in _IDLE:
            return "paused"
        return "off" if power < 0.3 * self.card.p_standby_w else "standby"

    def _load(self, power: float, values: Mapping[str, Value]) -> str:
        """Which load draws this power: ``idle``, ``valve``, ``motor``, ``heat``, or ``""``; a command wins."""
        heat_w, motor_w, heater, motor = (
            self.card.p_heat_w,
            self.card.p_motor_w,
            values.get("heater_on"),
            values.get("motor_on"),
        )
        if heater is True:
            return "heat"
        if motor is True:
            return "motor"
        like_heat = heat_w > 0 and self.pn > 0.2 * heat_w and heater is not False
        like_motor = 0.3 * motor_w <= power <= 1.3 * motor_w and motor_w > 0 and motor is not False
        if like_heat and like_motor:
            return "motor" if self._grinds(power) else "heat"
        if like_heat:
            return "heat"
        if like_motor:
            return "motor"
        return "idle" if power < self._idle_w else "valve" if power <= self._valve_w else ""

    def _grinds(self, power: float) -> bool:
        """Motor rather than heater, where the power could be either: it ripples (CV > 5 %), or is nearer to the motor's own
        figure than to that of any number of heating elements.
        """
        card, n = self.card, max(1, self.card.heater_elements)
        level = [p for p in self.powers if 0.7 * power <= p <= 1.4 * power]
        if len(level) >= 4 and pstdev(level) > 0.05 * fmean(level):
            return True
        elements = min(abs(log(self.pn * n / (k * card.p_heat_w))) for k in range(1, n + 1))
        return abs(log(power / card.p_motor_w)) < elements

    def _note_heater(self, ts: int, on: bool) -> None:
        if on:
            self.hot_ts = ts
        if on != bool(len(self.edges) % 2):
            self.edges.append(ts)
        while len(self.edges) > 2 and self.edges[1] < ts - DUTY_MS:
            self.edges.popleft()
            self.edges.popleft()

    def _duty(self, ts: int, window_ms: int) -> float:
        """Share of heater-on time over the last ``window_ms``, or since it was first seen on if that is shorter (0…1)."""
        start = max(ts - window_ms, self.edges[0])
        spans = zip_longest(islice(self.edges, 0, None, 2), islice(self.edges, 1, None, 2), fillvalue=ts)
        return sum(max(0, off - max(on, start)) for on, off in spans) / max(1, ts - start)

    def _cooking(self, ts: int, temp: float, on: bool) -> str | None:
        """heating, boil_hold or keep_warm; None where the heater has nothing to do with this sample."""
        if self.hot_ts is None or not (on or self.heated):
            return None
        rises = (len(self.edges) + 1) // 2
        if temp == temp:
            if temp >= self.card.boiling_c - 2.0 and ts - self.hot_ts <= 120_000:
                self.boiled = True
                return "boil_hold"
            if 60.0 <= temp < self.card.boiling_c - 2.0:
                if on and self.boiled and self._duty(ts, DUTY_MS) < 0.25:
                    self.warm_ts = ts
                if self.warm_ts is not None and ts - self.warm_ts <= DUTY_MS:
                    return "keep_warm"
        elif rises >= 2 and ts - self.hot_ts <= 120_000:
            if 0.2 <= self._duty(ts, 180_000) <= 0.7 and self.edges[-3 if on else -4] >= ts - 300_000:
                return "boil_hold"
            if rises >= 3 and self._duty(ts, DUTY_MS) < 0.25:
                return "keep_warm"
        return "heating" if on else None

    def _freshair(self, ts: int, values: Mapping[str, Value]) -> str | None:
        """Fresh-air unit: as above. A level of 1 or more is the command to run."""
        power, level = _number(values, "power_w"), _number(values, "level")
        turning = _number(values, "fan_supply_rpm") > 0 or _number(values, "airflow_m3h") > 0
        if values.get("door_open") is True and not power > self._idle_w and not turning:
            return "paused"
        fan_w = self.card.p_fan_w[-1] if self.card.p_fan_w else 0.0
        if values.get("ptc_on") is True or (fan_w and power > 1.3 * fan_w + 200.0):
            return "preheating"
        if power > self._idle_w or turning or level >= 1:
            return "running"
        if power != power:
            return None
        return "off" if power < 0.3 * self.card.p_standby_w else "standby"


def _number(values: Mapping[str, Value], channel: str) -> float:
    value = values.get(channel)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else nan
