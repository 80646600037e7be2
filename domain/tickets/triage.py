"""Triage of a call: does telemetry bear out what the customer says, what is it likely to be, and what can they check?

Three tables: what customers complain of (``SYMPTOMS``), which figures would show it (``Evidence``), and what to check by phone
(``GUIDES``). All rows are equipment.md §5 (S-F…, S-T…, A-F…, A-T…), limits those of §6; a limit without a source is EJ there
too. Texts are English gettext ids; the Chinese catalogue has the customers' own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from math import nan
from statistics import median

from domain.catalogue.electrical import mains_span, normalised_w
from domain.catalogue.freshair.efficiency import STRICT_CIN, eta_min
from domain.catalogue.model import ModelCard
from domain.findings import Finding, Kind
from domain.readings import Value

LOOK_BACK_MS = 30 * 60_000
"""Samples older than this say nothing about a complaint of now (EJ)."""
SILENT_AFTER_MS = 180_000
"""A machine that has said nothing for so long counts as silent (R01)."""
MIN_SAMPLES = 3
MIN_SHARE = 0.2
"""A symptom that comes and goes is still one: a fifth of the samples must show it, and at least three must speak (EJ)."""


class Stand(StrEnum):
    """What telemetry says of the customer's claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: device time in ms and the values of its channels."""

    ts: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Look:
    """One sample, asked for figures. Absent: nan, None, ''; no comparison with nan holds."""

    values: Mapping[str, Value]
    card: ModelCard

    def number(self, channel: str) -> float:
        """A figure; a flag counts as 1 or 0."""
        value = self.values.get(channel)
        return float(value) if isinstance(value, (int, float)) else nan

    @property
    def state(self) -> str:
        """The state that the machine reports."""
        return str(self.values.get("run_state", ""))

    @property
    def power_n(self) -> float:
        """Power at rated voltage, W; the power itself where no voltage is reported."""
        return normalised_w(self.number("power_w"), self.volts, self.card)

    @property
    def volts(self) -> float:
        """Lowest mains voltage, V; phase against phase on a three-phase card."""
        return mains_span(self.values, self.card)[0]

    @property
    def by_level(self) -> int:
        """Index of the fan level into the card's lists; the highest where none is reported."""
        level = self.number("level")
        return -1 if level != level or level < 1 else min(int(level), len(self.card.p_fan_w)) - 1

    @property
    def efficiency(self) -> float:
        """1 − out/in of the PM2.5 sensors."""
        c_in = self.number("pm25_in_ugm3")
        return 1.0 - self.number("pm25_out_ugm3") / c_in if c_in > 0 else nan


Figure = Callable[[Look], float]


def _none(_: Look) -> float:
    return nan


def _always(_: Look) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A figure that a healthy machine keeps between ``low`` and ``high`` (nan: no bound) in the samples where ``when`` holds."""

    name: str
    figure: Figure
    unit: str = ""
    when: Callable[[Look], bool] = _always
    low: Figure = _none
    high: Figure = _none
    flag: bool = False
    """The figure is a yes or no; healthy is no."""


def _in(*states: str) -> Callable[[Look], bool]:
    return lambda look: look.state in states


def _channel(key: str) -> Figure:
    return lambda look: look.number(key)


def _constant(value: float) -> Figure:
    return lambda _: value


def _flag(name: str, channel: str, when: Callable[[Look], bool] = _always) -> Evidence:
    return Evidence(name=name, figure=_channel(channel), when=when, high=_constant(0.0), flag=True)


# fmt: off
HEATING_POWER = Evidence(  # R03, R04
    name="Heating power while heating", unit="W", figure=lambda s: s.power_n, when=_in("heating"),
    low=lambda s: 0.90 * s.card.p_heat_w,
)
MOTOR_POWER = Evidence(  # R14
    name="Motor power while grinding", unit="W", figure=_channel("power_w"), when=_in("grinding"),
    low=lambda s: 0.25 * s.card.p_motor_w, high=lambda s: 1.5 * s.card.p_motor_w,
)
GRINDING_LOUD = Evidence(  # S-T5
    name="Motor power while grinding", unit="W", figure=_channel("power_w"), when=_in("grinding"),
    high=lambda s: 1.15 * s.card.p_motor_w,
)
FILL_FLOW = Evidence(  # R07
    name="Water flow while filling", unit="L/min", figure=_channel("water_flow_lpm"), when=_in("filling"),
    low=lambda s: max(0.3, 0.3 * s.card.fill_lpm_min),
)
IDLE_FLOW = Evidence(  # R08
    name="Water flow at rest", unit="L/min", figure=_channel("water_flow_lpm"), when=_in("off", "standby"),
    high=_constant(0.1),
)
SUPPLY_VOLTAGE = Evidence(  # R02 [S9]
    name="Mains voltage", unit="V", figure=lambda s: s.volts,
    low=lambda s: 353.4 if s.card.phases == 3 else 198.0, high=lambda s: 406.6 if s.card.phases == 3 else 235.4,
)
BOIL_TEMPERATURE = Evidence(  # R11 [S3]
    name="Temperature while holding the boil", unit="°C", figure=_channel("temp_c"), when=_in("boil_hold"),
    low=lambda s: s.card.boiling_c - 2.0,
)
HEATER_TEMPERATURE = Evidence(  # R09
    name="Heater temperature", unit="°C", figure=_channel("temp_heater_c"), high=_constant(150.0)
)
PROBE = Evidence(  # R22
    name="Temperature probe", unit="°C", figure=_channel("temp_c"), low=_constant(-5.0), high=_constant(125.0)
)
START_TEMPERATURE = Evidence(  # E2 [S1]
    name="Temperature at rest", unit="°C", figure=_channel("temp_c"), when=_in("off", "standby"), high=_constant(70.0)
)
FAN_POWER = Evidence(  # R15
    name="Fan power in operation", unit="W", figure=_channel("power_w"), when=_in("running"),
    low=lambda s: 0.20 * s.card.p_fan_w[s.by_level] if s.card.p_fan_w else nan,
)
FAN_SPEED = Evidence(  # R15
    name="Fan speed in operation", unit="rpm", figure=_channel("fan_supply_rpm"), when=_in("running"),
    low=lambda s: 0.10 * s.card.rpm[s.by_level] if s.card.rpm else nan,
)
FAN_LOUD = Evidence(  # A-T2
    name="Fan power in operation", unit="W", figure=_channel("power_w"), when=_in("running"),
    high=lambda s: 1.20 * s.card.p_fan_w[s.by_level] if s.card.p_fan_w else nan,
)
AIRFLOW = Evidence(  # R17
    name="Airflow in operation", unit="m³/h", figure=_channel("airflow_m3h"), when=_in("running"),
    low=lambda s: 0.70 * s.card.airflow_m3h[s.by_level] if s.card.airflow_m3h else nan,
)
FILTER_PRESSURE = Evidence(  # R18
    name="Filter pressure drop", unit="Pa", figure=_channel("filter_dp_pa"), when=_in("running"),
    high=lambda s: s.card.dp_final_pa or nan,
)
FILTER_LIFE = Evidence(name="Filter life left", unit="%", figure=_channel("filter_life_pct"), low=_constant(5.0))  # A-F2
EFFICIENCY = Evidence(  # R20, §4
    name="PM2.5 held back by the filter", unit="%", figure=lambda s: 100.0 * s.efficiency,
    when=lambda s: s.state == "running" and s.number("pm25_in_ugm3") >= STRICT_CIN,
    low=lambda s: 100.0 * eta_min(
        s.number("pm25_in_ugm3"), s.card.eta_pm25, s.card.sensor_err_abs, s.card.sensor_err_rel
    ),
)
OUTLET_EXCESS = Evidence(  # R27
    name="PM2.5 at the outlet above the intake", unit="µg/m³", when=_in("running"),
    figure=lambda s: s.number("pm25_out_ugm3") - s.number("pm25_in_ugm3"), high=_constant(20.0),
)
SUPPLY_TEMPERATURE = Evidence(  # R24 [S28]
    name="Supply-air temperature", unit="°C", figure=_channel("temp_supply_c"), when=_in("running", "preheating"),
    low=_constant(5.0), high=_constant(45.0),
)
CO2 = Evidence(name="CO₂ indoors", unit="ppm", figure=_channel("co2_in_ppm"), low=_constant(300.0), high=_constant(5000.0))  # R23
PM_AT_ITS_END = Evidence(  # A-T6
    name="PM2.5 at the outlet", unit="µg/m³", figure=_channel("pm25_out_ugm3"), low=_constant(1.0), high=_constant(998.0)
)
LID = _flag("Lid reported open", "lid_open")
PANEL = _flag("Panel reported open", "door_open")
LOW_WATER = _flag("Low-water probe", "level_low", _in("filling", "standby"))
OVERFLOW = _flag("Overflow electrode wet", "overflow_electrode")
EMERGENCY_STOP = _flag("Emergency stop pressed", "estop")


@dataclass(frozen=True, slots=True)
class Symptom:
    """One complaint. ``kind`` is the class of equipment.md §5 once telemetry bears it out; ``guide`` names the self-check.

    ``explained_by`` are families whose open finding explains it just as well (no water, therefore no heat). ``silence`` means
    that the machine's own silence is the evidence; ``danger`` that nobody may go on using the machine.
    """

    key: str
    label: str
    family: str
    kind: Kind
    evidence: tuple[Evidence, ...] = ()
    _: KW_ONLY
    explained_by: tuple[str, ...] = ()
    guide: str = ""
    silence: bool = False
    danger: bool = False


_REAL, _FALSE = Kind.REAL, Kind.FALSE


def _by_key(*symptoms: Symptom) -> Mapping[str, Symptom]:
    return {symptom.key: symptom for symptom in symptoms}


SYMPTOMS: Mapping[str, Mapping[str, Symptom]] = {
    "soymilk": _by_key(
        Symptom("dead", "Nothing lights up, buttons do nothing", "connection", _FALSE, (EMERGENCY_STOP,),
                silence=True, guide="power"),
        Symptom("no_heat", "Turns but does not get hot", "heating", _REAL, (HEATING_POWER,),
                explained_by=("water", "lid", "supply")),
        Symptom("slow_heat", "Takes very long to boil", "heating", _REAL, (HEATING_POWER,), explained_by=("supply",)),
        Symptom("undercooked", "Soy milk is not cooked through", "heating", _REAL, (BOIL_TEMPERATURE, HEATING_POWER)),
        Symptom("burnt", "Smells burnt, boils dry", "heating", _REAL, (HEATER_TEMPERATURE,), explained_by=("water",)),
        Symptom("no_water", "No water comes in, shows low water", "water", _FALSE, (FILL_FLOW, LOW_WATER), guide="water"),
        Symptom("leak", "Water runs though it is off", "water", _REAL, (IDLE_FLOW,)),
        Symptom("lid", "Stops as soon as the lid is shut, says it is open", "lid", _FALSE, (LID,), guide="lid"),
        Symptom("overflow", "Soy milk boils over", "overflow", _FALSE, (OVERFLOW,), guide="overflow"),
        Symptom("no_grind", "Hums but does not grind", "motor", _REAL, (MOTOR_POWER,), explained_by=("supply", "lid")),
        Symptom("noise", "Loud grinding, coarse result", "motor", _REAL, (GRINDING_LOUD,)),
        Symptom("hot_start", "Says the water is too hot to start", "code", _FALSE, (START_TEMPERATURE,), guide="cool_down"),
        Symptom("temperature", "Temperature jumps or stands still", "sensor", _REAL, (PROBE,)),
        Symptom("voltage", "Keeps stopping, unsteady mains", "supply", _FALSE, (SUPPLY_VOLTAGE,), guide="supply"),
        Symptom("descale", "Asks to be cleaned or descaled", "code", _FALSE, guide="descale"),
        Symptom("trips", "Trips the breaker", "connection", _REAL, silence=True, danger=True),
        Symptom("danger", "Smoke, sparks or an electric shock", "supply", _REAL, danger=True),
    ),
    "freshair": _by_key(
        Symptom("dead", "Nothing lights up, buttons do nothing", "connection", _FALSE, (EMERGENCY_STOP,),
                silence=True, guide="power"),
        Symptom("no_air", "No air comes out", "fan", _REAL, (FAN_POWER, FAN_SPEED), explained_by=("lid", "supply", "climate")),
        Symptom("weak_air", "Little air, asks for a new filter", "filter", _FALSE, (FILTER_PRESSURE, FILTER_LIFE, AIRFLOW),
                explained_by=("fan",), guide="filter"),
        Symptom("counter", "Still asks for a filter after the change", "filter", _FALSE, (FILTER_LIFE,), guide="counter"),
        Symptom("panel", "Stopped, says the panel is open", "lid", _FALSE, (PANEL,), guide="panel"),
        Symptom("stale_air", "PM2.5 in the room stays high", "filter", _FALSE, (EFFICIENCY,),
                explained_by=("fan",), guide="room"),
        Symptom("dirty_air", "Air that comes out is dirtier", "filter", _REAL, (OUTLET_EXCESS, EFFICIENCY)),
        Symptom("noise", "Loud, shakes", "fan", _REAL, (FAN_LOUD,)),
        Symptom("cold", "Cold air, stops by itself in winter", "climate", _FALSE, (SUPPLY_TEMPERATURE,), guide="frost"),
        Symptom("pm_sensor", "PM2.5 figure never changes", "sensor", _REAL, (PM_AT_ITS_END,)),
        Symptom("co2", "CO₂ figure is wrong", "sensor", _REAL, (CO2,)),
        Symptom("trips", "Trips the breaker", "connection", _REAL, silence=True, danger=True),
        Symptom("danger", "Smoke, sparks or an electric shock", "supply", _REAL, danger=True),
    ),
}
# fmt: on
"""Equipment type → key → symptom, in the order in which an operator is asked."""

GUIDES: Mapping[str, tuple[str, ...]] = {
    "power": (
        "Is the plug fully in, and does another appliance work on this socket?",
        "Is the breaker or earth-leakage switch up? If it drops again at once, leave it down",
        "Is the red emergency stop released? Turn it clockwise until it pops out",
        "Switch on at the main switch and wait for the display",
    ),
    "supply": (
        "Do lamps nearby flicker, or did it begin when another large appliance started?",
        "Switch off other large appliances on the same line",
        "Start the machine again; if it stops again, the site's electrician must measure the mains",
    ),
    "water": (
        "Is the water tap in front of the machine fully open?",
        "Does water come from another tap nearby, or is it cut off?",
        "Close the tap, unscrew the strainer at the inlet, rinse it, put it back",
        "Straighten the hose, open the tap, press start again",
    ),
    "lid": (
        "Lift the lid, wipe the rim and the contact dry",
        "Seat the machine head and press the lid down until it clicks",
        "Press start again",
    ),
    "overflow": (
        "Stop the program and let the foam settle",
        "Draw off what stands above the upper mark: too many beans or too much water?",
        "Switch off at the plug and wipe the overflow electrode under the lid clean and dry",
        "Choose the program that fits the amount and start again",
    ),
    "cool_down": (
        "Draw off the hot water or let it cool below 70 °C",
        "Fill with cold water and press start again",
    ),
    "descale": (
        "Fill with water and descaling agent as the label says",
        "Run the cleaning program to its end, then rinse twice",
    ),
    "filter": (
        "Switch off, open the panel, take out the filter",
        "Grey or clogged: put in a new one, film off, arrow in the direction of the air",
        "Close the panel and reset the filter counter as the label inside the panel says",
        "Switch on at the highest level",
    ),
    "counter": (
        "Was the film taken off the new filter, and does the arrow point in the direction of the air?",
        "Reset the filter counter as the label inside the panel says",
    ),
    "panel": (
        "Open the panel, push the filter in until it is flush",
        "Close the panel until it clicks on both sides",
        "Switch on again",
    ),
    "room": (
        "Is somebody cooking or smoking, or is a window open? Close the windows",
        "Leave sleep mode and set the highest level for 30 minutes",
    ),
    "frost": (
        "Is it below freezing outside? The unit then protects itself and starts again when it is warmer",
        "Switch the preheater on in the menu",
        "Is the supply grille free?",
    ),
}
"""What an untrained person can check safely; nothing here opens an electrical part (equipment.md §5, rows F)."""

FAMILY_GUIDES: Mapping[tuple[str, str], str] = {
    ("soymilk", "connection"): "power",
    ("soymilk", "supply"): "supply",
    ("soymilk", "water"): "water",
    ("soymilk", "lid"): "lid",
    ("soymilk", "overflow"): "overflow",
    ("freshair", "connection"): "power",
    ("freshair", "supply"): "supply",
    ("freshair", "filter"): "filter",
    ("freshair", "lid"): "panel",
    ("freshair", "climate"): "frost",
}
"""(equipment type, fault family) → self-check for a 假性 finding of that family."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One figure as measured: its median over the samples that speak, its bounds then, and whether it shows the symptom."""

    evidence: Evidence
    shows: bool
    value: float
    low: float | None
    high: float | None
    samples: tuple[tuple[int, float], ...]
    """(ms, figure) of every sample used, oldest first."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What telemetry says of a complaint. ``kind`` and ``family`` are the proposal for the ticket."""

    stand: Stand
    seen: tuple[Seen, ...]
    findings: tuple[Finding, ...]
    """Open findings that explain the complaint, the deciding one first."""
    kind: Kind
    family: str
    guide: str
    """Key into ``GUIDES``; '' where a visit is the only answer."""
    silent: bool
    """The machine has said nothing for ``SILENT_AFTER_MS``."""
    danger: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """The self-check, step by step."""
        return GUIDES.get(self.guide, ())


def assess(
    symptom: Symptom,
    card: ModelCard,
    samples: Iterable[Sample],
    findings: Sequence[Finding],
    *,
    now_ms: int,
    last_ms: int | None,
    online: bool | None,
) -> Claim:
    """Weigh a complaint against the machine's newest samples and open findings.

    ``last_ms`` is when the machine last said anything (None: it never did), ``online`` what the broker says of it. An open
    finding that explains the complaint decides; else the figures; else, for a dead machine, its silence.
    """
    fresh = sorted((s for s in samples if now_ms - LOOK_BACK_MS <= s.ts <= now_ms), key=lambda s: s.ts)
    looks = [(sample.ts, Look(sample.values, card)) for sample in fresh]
    seen = tuple(figure for figure in (_seen(evidence, looks) for evidence in symptom.evidence) if figure is not None)
    silent = last_ms is not None and (online is False or now_ms - last_ms > SILENT_AFTER_MS)
    families = (symptom.family, *symptom.explained_by)
    explaining = tuple(
        sorted(
            (f for f in findings if f.cleared_at is None and f.family in families),
            key=lambda f: (families.index(f.family), f.severity, f.raised_at),
        )
    )
    deciding = next((f for f in explaining if f.kind is Kind.FALSE and f.family != symptom.family), None) or next(
        iter(explaining), None
    )
    if explaining or any(figure.shows for figure in seen) or (symptom.silence and silent):
        stand = Stand.SUPPORTED
    elif (symptom.silence and last_ms is not None) or (seen and not silent):
        stand = Stand.CONTRADICTED
    else:
        stand = Stand.NO_DATA
    kind = _kind(symptom, stand, deciding)
    guide = "" if symptom.danger or kind is Kind.REAL else _guide(card.type, symptom, deciding)
    return Claim(
        stand=stand,
        seen=seen,
        findings=(deciding, *(f for f in explaining if f is not deciding)) if deciding else (),
        kind=kind,
        family=deciding.family if deciding else symptom.family,
        guide=guide,
        silent=silent,
        danger=symptom.danger,
    )


def _seen(evidence: Evidence, looks: Sequence[tuple[int, Look]]) -> Seen | None:
    """The figure over the samples that speak; None where fewer than ``MIN_SAMPLES`` do."""
    speaking = [
        (ts, look, figure) for ts, look in looks if evidence.when(look) and (figure := evidence.figure(look)) == figure
    ]
    if len(speaking) < MIN_SAMPLES:
        return None
    outside = sum(f < evidence.low(look) or f > evidence.high(look) for _, look, f in speaking)
    last = speaking[-1][1]
    low, high = evidence.low(last), evidence.high(last)
    return Seen(
        evidence=evidence,
        shows=outside >= max(2, MIN_SHARE * len(speaking)),
        value=median(f for _, _, f in speaking),
        low=low if low == low else None,
        high=high if high == high else None,
        samples=tuple((ts, f) for ts, _, f in speaking),
    )


def _kind(symptom: Symptom, stand: Stand, deciding: Finding | None) -> Kind:
    if symptom.danger:
        return Kind.REAL  # safety first: no self-check, whatever telemetry says (equipment.md §5.3, 1)
    if deciding is not None and deciding.kind is not Kind.UNDECIDED:
        return deciding.kind
    if stand is Stand.SUPPORTED or symptom.kind is Kind.FALSE:
        return symptom.kind
    return Kind.UNDECIDED


def _guide(equipment_type: str, symptom: Symptom, deciding: Finding | None) -> str:
    found = FAMILY_GUIDES.get((equipment_type, deciding.family), "") if deciding else ""
    return found or symptom.guide
