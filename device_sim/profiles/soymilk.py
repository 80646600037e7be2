"""Physics of a soy-milk machine: water, grinder, heater, pot, and the board that runs a program on them.

Everything is a balance of litres, watts and joules; no figure here is a limit of health. Numbers are engineering
judgement (EJ) unless a source of equipment.md §12 is named. 3~ machines report line voltages (``voltage_v_a`` = U_ab …) and
carry one element group per phase.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_sim.profiles.physics import Condition, Notice
from device_sim.profiles.soymilk_programs import PROGRAMS, Phase, batch_program
from device_sim.site import TAU, Mains, Site, Timetable
from domain.catalogue.common import PHASES
from domain.catalogue.model import ModelCard
from domain.readings import Value

SPECIFIC_HEAT = 3900.0
"""J/(kg·K) of slurry (EJ, equipment.md §1.4)."""
TRANSFER = 0.92
"""Share of the heater's power that reaches the slurry; with LOSS the mean from 20 to 98 °C is §1.4's 0.88."""
LOSS_PER_KW = 1.0
"""Heat loss of the pot in W/K per kW of rated heating."""
VESSEL = 0.02
"""Heat capacity of the pot itself, as a share of a full batch."""
PROBE_LAG_S = 8.0
ELEMENT_LAG_S = 20.0
ELEMENT_RISE_K = 35.0
DRY_RISE_K = 220.0
SIMMER_PERIOD_S, SIMMER_ON_S = 40, 16
"""The heater's pulses in the boil hold, so that it boils without foaming over: 40 % duty."""
WARM_ON_C, WARM_OFF_C = 78.0, 82.0
INRUSH = 1.9
"""Mean power of the motor's first second over its rated power: 0.4 s of starting current."""
STALL = 3.0
"""Locked rotor's power over rated power (humming, 1.5–6 in §5 S-T4)."""
PROTECTOR_TRIP = 800.0
"""The motor's thermal protector opens when ∫((P/Pm)²−1)dt reaches this: about 100 s of a locked rotor."""
PROTECTOR_COOL_S = 600.0
DRAIN_LPM = 20.0
RINSE_SHARE = 0.05
WET_LIMIT_S = 60.0
LEAK_LPM = 0.4
METER_FULL = 1.15
"""Fill above which foam or liquid really touches the overflow electrode, over a full batch."""


@dataclass(slots=True)
class SoymilkCondition(Condition):
    """Physical facts of a soy-milk machine; defaults are healthy."""

    heater_open: bool = False
    elements_open: int = 0
    tap_open: bool = True
    lid_closed: bool = True
    motor_jammed: bool = False
    electrode_dirty: bool = False
    inlet_stuck: bool = False


STEP_MS: Mapping[str, int] = {"standby": 30_000, "fault": 30_000, "paused": 5_000, "keep_warm": 5_000, "soaking": 5_000}
"""Longest step by state; others need every second."""


class Soymilk:
    """One machine: ``card`` is its nameplate, ``site`` its surroundings, ``rng`` its tolerances and sensor noise."""

    programs: tuple[str, ...] = tuple(PROGRAMS)

    def __init__(self, card: ModelCard, site: Site, timetable: Timetable, rng: random.Random) -> None:
        self.card, self.site, self.timetable, self.rng = card, site, timetable, rng
        self._condition = SoymilkCondition()
        self._mains = Mains(rng)
        self._heat_gain = rng.uniform(0.97, 1.02)
        self._motor_load = rng.uniform(0.80, 0.90)
        self._flow_lpm = card.fill_lpm_min * rng.uniform(1.3, 1.5)
        self._flow_gain = rng.uniform(0.99, 1.01)
        self._probe_bias = rng.uniform(-0.4, 0.4)
        self._phase_gain = [rng.uniform(0.996, 1.004) for _ in PHASES]
        self._ripple_phase = rng.uniform(0, TAU)
        self._loss_w_k = LOSS_PER_KW * card.p_heat_w / 1000.0

        self.state = "standby"
        self.fault_code = ""
        self.volume_l = 0.0
        self.temp_c = self._probe_c = self._element_c = site.room_c
        self.metered_l = 100.0 * rng.randrange(50, 500)
        self.energy_kwh = 0.0
        self.power_w = self.heat_w = self.motor_w = self.flow_lpm = 0.0
        self.voltage_v = card.rated_v
        self.batch_target_l = 0.0
        self._program: list[Phase] = []
        self._name = ""
        self._elapsed_s = 0.0
        self._phase_start_l = 0.0
        self._wet_s = 0.0
        self._protector = 0.0
        self._tripped = False
        self._warming = False
        self._testing = False
        self._active_until = 0
        self._notices: list[Notice] = []
        self._due: tuple[int, float] | None = None
        self._due_known = False
        self._uptime_ms = 0

    # ------------------------------------------------------------------ what the protocol side asks

    @property
    def condition(self) -> SoymilkCondition:
        """The facts that faults change."""
        return self._condition

    def max_step_ms(self, now_ms: int) -> int:
        """1 s while something flows, turns or heats; longer at rest, but not beyond the next batch of the timetable."""
        longest = STEP_MS.get(self.state, 1000)
        due = self._next_batch(now_ms)
        if due is not None and self.state == "standby" and not self._testing:
            return min(longest, due[0] - now_ms) if due[0] > now_ms else 1000
        return longest

    def signature(self) -> tuple[object, ...]:
        """State, lid, code and overflow electrode."""
        return self.state, self._condition.lid_closed, self.fault_code, self.overflow

    def notices(self) -> list[Notice]:
        """Codes raised since the last call."""
        noticed, self._notices = self._notices, []
        return noticed

    def power_on(self, now_ms: int) -> None:
        """The board starts in standby; the pot keeps what is in it."""
        self.stop()
        self._testing = False
        self._uptime_ms = 0
        self._due_known = False

    def start_test(self, program: str, now_ms: int, active_s: float = 0.0) -> None:
        """Empty the pot if there is something in it, then run ``program``; its last keep-warm lasts until ``active_s``."""
        self.stop()
        self._testing, self._active_until = True, now_ms + round(active_s * 1000)
        drain = (Phase("cleaning", 30),) if self.volume_l > 0.5 else ()
        self.begin(program, drain + PROGRAMS[program])

    def end_test(self) -> None:
        """The owner's timetable counts again; a program that still runs goes on."""
        self._testing = False
        self._due_known = False

    def stop(self) -> None:
        """Standby now; codes are acknowledged."""
        self._program = []
        self.state, self.fault_code, self.batch_target_l, self._name = "standby", "", 0.0, ""
        self._elapsed_s = self._wet_s = 0.0

    def acknowledge(self) -> None:
        """A latched code goes, and the board rests in standby."""
        if self.state == "fault":
            self.stop()

    @property
    def overflow(self) -> bool:
        """Whether the overflow electrode conducts: really wet, or dirty."""
        return self._condition.electrode_dirty or self.volume_l > METER_FULL * self.card.batch_l

    @property
    def reading_c(self) -> float:
        """The board's own view of the slurry: probe with its bias, without noise."""
        return self._probe_c + self._probe_bias

    # ------------------------------------------------------------------ time

    def step(self, now_ms: int, dt_ms: int) -> None:
        """Board decides, then water, motor, heater and pot follow for ``dt_ms``."""
        dt = dt_ms / 1000.0
        condition, card = self._condition, self.card
        if not condition.powered:
            self.heat_w = self.motor_w = self.power_w = self.flow_lpm = self.voltage_v = 0.0
            self._warm_up(dt)
            return
        self._uptime_ms += dt_ms
        self._run_board(now_ms, dt)
        factor = self._mains.factor(now_ms) * condition.mains_factor
        factor -= 0.006 * (self.heat_w + self.motor_w) / (card.p_heat_w or 1.0)
        self.voltage_v = factor * card.rated_v
        self._flow(dt)
        self.heat_w = self._heater_w(factor) if self.heater_on else 0.0
        self.motor_w = self._grinder_w(now_ms, dt) if self.motor_on else 0.0
        pump_w = 0.1 * card.p_motor_w if self.state in ("filtering", "dispensing") else 0.0
        self.power_w = card.p_standby_w + self.heat_w + self.motor_w + pump_w + (8.0 if self.inlet_valve else 0.0)
        self.energy_kwh += self.power_w * dt / 3.6e6
        self._warm_up(dt)

    def _run_board(self, now_ms: int, dt: float) -> None:
        condition = self._condition
        if self.state == "fault":
            if self.fault_code == "E3" and not self.overflow:
                self.stop()
            return
        if not self._program:
            due = self._next_batch(now_ms)
            if due is not None and now_ms >= due[0] and not self._testing:
                self._due_known = False
                self.begin("batch", batch_program(due[1]))
            else:
                return
        if not condition.lid_closed:
            self.state = "paused"
            return
        phase = self._program[0]
        if self.state == "paused":
            self.state = phase.state
        self._elapsed_s += dt if phase.state != "boil_hold" or self.reading_c >= self.site.boiling_c - 2.0 else 0.0
        self._supervise(dt)
        if self.state != "fault" and self._finished(phase, now_ms):
            self._program.pop(0)
            self._enter()

    def _supervise(self, dt: float) -> None:
        """The board's own protections: E3 overflow, E4 heating timeout, E5 supply (vocabulary of [S1])."""
        scale = self.card.rated_v / 220.0
        self._wet_s = self._wet_s + dt if self.overflow and self.state in ("heating", "boil_hold") else 0.0
        if self._wet_s > WET_LIMIT_S:
            self._trip("E3", {"overflow_s": round(self._wet_s)})
        elif self.state == "heating" and self._elapsed_s > 600.0 + 2.0 * self._expected_heat_s():
            self._trip("E4", {"heating_s": round(self._elapsed_s)})
        elif not 155.0 * scale <= self.voltage_v <= 275.0 * scale:
            self._trip("E5", {"voltage_v": round(self.voltage_v, 1)})

    def _expected_heat_s(self) -> float:
        return max(self.volume_l, 1.0) * SPECIFIC_HEAT * 80.0 / (self.card.p_heat_w * 0.88)

    def _trip(self, code: str, detail: Mapping[str, Value]) -> None:
        self.stop()
        self.state, self.fault_code = "fault", code
        self._notices.append(Notice(code, "error", detail))

    def begin(self, name: str, program: Sequence[Phase]) -> None:
        """Run ``program`` from its first phase on."""
        self._program, self._name = list(program), name
        self._enter()

    def _enter(self) -> None:
        """Begin the phase now at the head of the program, or rest."""
        if not self._program:
            self.stop()
            return
        phase = self._program[0]
        self.state, self._elapsed_s, self._wet_s = phase.state, 0.0, 0.0
        self._phase_start_l = self.metered_l if phase.state == "filling" else self.volume_l
        if phase.state == "filling":
            self.batch_target_l = phase.share * self.card.batch_l

    def _finished(self, phase: Phase, now_ms: int) -> bool:
        match phase.state:
            case "filling":
                return self.metered_l - self._phase_start_l >= self.batch_target_l - 0.5 * self.flow_lpm / 60.0
            case "heating":
                return self.reading_c >= self.site.boiling_c - 1.0
            case "boil_hold":
                return self._elapsed_s >= self.card.t_boil_hold_s + 30.0
            case "dispensing":
                return self.volume_l <= max(0.01, self._phase_start_l * (1.0 - phase.share))
            case "cleaning":
                return self._elapsed_s >= phase.seconds and self.volume_l < 0.05
        last = len(self._program) == 1 and self._testing
        return self._elapsed_s >= phase.seconds and not (last and now_ms < self._active_until)

    def _next_batch(self, now_ms: int) -> tuple[int, float] | None:
        if not self._due_known:
            self._due, self._due_known = self.timetable.after(now_ms - 1), True
        return self._due

    # ------------------------------------------------------------------ relays

    @property
    def inlet_valve(self) -> bool:
        """The valve's command: filling, and the rinses of cleaning."""
        return self.state == "filling" or (
            self.state == "cleaning"
            and self._name == "batch"
            and 30 <= self._elapsed_s % 80 < 50
            and self._elapsed_s < 200
        )

    @property
    def drain_valve(self) -> bool:
        """Open while draining, and at rest with an empty pot, so that a leak runs off."""
        return (self.state == "cleaning" and not self.inlet_valve) or (self.state == "standby" and self.volume_l < 1.0)

    @property
    def motor_on(self) -> bool:
        """The grinder's command; while cleaning it turns for 5 s in 10."""
        return self.state == "grinding" or (
            self.state == "cleaning" and self._name == "batch" and self._elapsed_s % 10 < 5 and self._elapsed_s < 220
        )

    @property
    def heater_on(self) -> bool:
        """The heater's command: full, pulsed in the hold, thermostat in keep-warm; never while the electrode is wet."""
        if self.overflow:
            return False
        if self.state == "heating":
            return True
        if self.state == "boil_hold":
            return self.reading_c < self.site.boiling_c - 1.5 or self._elapsed_s % SIMMER_PERIOD_S < SIMMER_ON_S
        if self.state == "keep_warm":
            self._warming = self.reading_c < (WARM_OFF_C if self._warming else WARM_ON_C)
            return self._warming
        return False

    # ------------------------------------------------------------------ water, motor, heat

    def _flow(self, dt: float) -> None:
        condition = self._condition
        pressure = self.site.tap_mpa if condition.tap_open else 0.0
        full = self._flow_lpm * math.sqrt(pressure / 0.25) * self._flow_gain
        self.flow_lpm = full if self.inlet_valve else (LEAK_LPM if condition.inlet_stuck and pressure else 0.0)
        gained = self.flow_lpm * dt / 60.0
        if gained:
            self.metered_l += gained
            heat_l = self.volume_l + VESSEL * self.card.batch_l
            self.temp_c = (self.temp_c * heat_l + self.site.tap_c * gained) / (heat_l + gained)
            self.volume_l += gained
        if self.drain_valve or self.state == "dispensing":
            self.volume_l = max(0.0, self.volume_l - DRAIN_LPM * dt / 60.0)

    def _heater_w(self, factor: float) -> float:
        return self.card.p_heat_w * self._heat_gain * factor * factor * self._intact_share()

    def _intact_share(self) -> float:
        if self._condition.heater_open:
            return 0.0
        elements = max(1, self.card.heater_elements)
        return max(0, elements - self._condition.elements_open) / elements

    def _grinder_w(self, now_ms: int, dt: float) -> float:
        rated = self.card.p_motor_w
        if self._tripped:
            return 0.0
        if self._condition.motor_jammed:
            self._protector += (STALL**2 - 1.0) * dt
            if self._protector >= PROTECTOR_TRIP:
                self._tripped = True
            return STALL * rated
        if self.state == "cleaning":
            return 0.5 * rated
        if self._elapsed_s < 1.0:
            return INRUSH * rated
        ripple = 0.085 * math.sin(TAU * now_ms / 7300.0 + self._ripple_phase)
        return rated * (self._motor_load + 0.08 * math.exp(-self._elapsed_s / 40.0)) * (1.0 + ripple)

    def _warm_up(self, dt: float) -> None:
        if not self.motor_w and self._protector:
            self._protector = max(0.0, self._protector - PROTECTOR_TRIP * dt / PROTECTOR_COOL_S)
            self._tripped = self._tripped and self._protector > 0.0
        capacity = SPECIFIC_HEAT * (self.volume_l + VESSEL * self.card.batch_l)
        input_w = TRANSFER * self.heat_w + 0.5 * self.motor_w
        # Exact for constant input over the step: relaxation to the temperature at which losses balance it.
        balance_c = self.site.room_c + input_w / self._loss_w_k
        temp = balance_c + (self.temp_c - balance_c) * math.exp(-self._loss_w_k * dt / capacity)
        self.temp_c = min(temp, self.site.boiling_c)  # what comes on top leaves as steam
        self._probe_c += (self.temp_c - self._probe_c) * (1.0 - math.exp(-dt / PROBE_LAG_S))
        rise = ELEMENT_RISE_K if self.volume_l > 0.1 * self.card.batch_l else DRY_RISE_K
        target = self.temp_c + rise * self.heat_w / self.card.p_heat_w
        self._element_c += (target - self._element_c) * (1.0 - math.exp(-dt / ELEMENT_LAG_S))

    # ------------------------------------------------------------------ what it reports

    def sample(self, now_ms: int) -> dict[str, Value]:
        """Channels of equipment.md §2.1 and §2.2; accuracy of the meters is EJ of that table."""
        gauss, card, condition = self.rng.gauss, self.card, self._condition
        voltage = self.voltage_v * (1.0 + gauss(0.0, 0.001))
        power = self.power_w * (1.0 + gauss(0.0, 0.003))
        volume = self.volume_l
        values: dict[str, Value] = {
            "run_state": self.state,
            "mode": "test" if self._testing else "auto",
            "voltage_v": round(voltage, 1),
            "power_w": float(round(power)),
            "energy_kwh": round(self.energy_kwh, 3),
            "freq_hz": round(50.0 + gauss(0.0, 0.015), 2),
            "water_flow_lpm": round(self.flow_lpm * (1.0 + gauss(0.0, 0.01)), 1),
            "water_total_l": round(self.metered_l, 2),
            "water_pressure_mpa": round(self.site.tap_mpa + gauss(0.0, 0.005), 2) if condition.tap_open else 0.0,
            "water_level_pct": float(round(min(100.0, 100.0 * volume / card.batch_l))),
            "level_low": volume < 0.1 * card.batch_l,
            "level_high": volume >= 0.95 * card.batch_l,
            "temp_c": round(self.reading_c + gauss(0.0, 0.08), 1),
            "temp_heater_c": float(round(self._element_c + gauss(0.0, 0.5))),
            "overflow_electrode": self.overflow,
            "lid_open": not condition.lid_closed,
            "inlet_valve": self.inlet_valve,
            "drain_valve": self.drain_valve,
            "heater_on": self.heater_on,
            "motor_on": self.motor_on,
            "uptime_s": float(self._uptime_ms // 1000),
        }
        self._report_current(values, voltage, power)
        if self.batch_target_l:
            values["batch_target_l"] = round(self.batch_target_l, 1)
            values["recipe"] = self._name
        if self.fault_code:
            values["fault_code"] = self.fault_code
        return values

    def _report_current(self, values: dict[str, Value], voltage: float, power: float) -> None:
        resistive = self.heat_w
        rest = max(0.0, power - resistive)
        apparent = math.hypot(resistive + rest, 0.7 * rest)  # motors and electronics at cos φ 0.82
        values["pf"] = round(min(1.0, power / apparent), 2) if apparent else 1.0
        if self.card.phases == 1:
            values["current_a"] = round(apparent / voltage, 2) if voltage else 0.0
            return
        phase_v = voltage / math.sqrt(3.0)
        heat = self._phase_heat_w()
        currents = [math.hypot(h + rest / 3.0, 0.7 * rest / 3.0) / phase_v if phase_v else 0.0 for h in heat]
        for phase, current, gain in zip(PHASES, currents, self._phase_gain, strict=True):
            values[f"voltage_v_{phase}"] = round(voltage * gain, 1)
            values[f"current_a_{phase}"] = round(current, 2)
        values["current_a"] = round(sum(currents) / 3.0, 2)

    def _phase_heat_w(self) -> list[float]:
        """Heater power by phase: elements are dealt to the phases in turn, open ones from phase a on."""
        elements = max(1, self.card.heater_elements)
        intact = [1.0 if k >= self._condition.elements_open else 0.0 for k in range(elements)]
        total = sum(intact)
        if not total or not self.heat_w:
            return [0.0, 0.0, 0.0]
        return [sum(intact[phase::3]) * self.heat_w / total for phase in range(3)]
