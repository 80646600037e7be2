"""A machine's channels as charts: which belong together, what they are called, and the limits drawn into them.

One chart has one unit; several stand below each other on one time axis. ``static/chart.js`` draws what
:meth:`ChartRange.payload` gives; the table below the chart is made from the same rows, for readers without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.clock import from_ms, to_ms
from domain.desk.visit import card_for
from domain.readings import Value
from domain.store.queries import service
from domain.store.tables import Equipment, FindingRow, TestRun
from domain.telemetry.port import Row, Telemetry
from portal.language import Message, _

RANGES_MIN = (15, 60, 360, 1440, 10080)
"""Minutes to choose from."""
RAW_UP_TO_MIN = 60
POINTS = 600
"""A phone shows about 350, a desktop about 900 points side by side."""
STEPS_S = (5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600)
GAP_S = 90
"""A longer silence is drawn as a hole: never a line over what nobody measured."""

CHANNEL_LABELS: Mapping[str, str] = {
    "voltage_v": _("Mains voltage"),
    "voltage_v_a": _("Voltage, phase A"),
    "voltage_v_b": _("Voltage, phase B"),
    "voltage_v_c": _("Voltage, phase C"),
    "current_a": _("Current"),
    "current_a_a": _("Current, phase A"),
    "current_a_b": _("Current, phase B"),
    "current_a_c": _("Current, phase C"),
    "power_w": _("Power"),
    "energy_kwh": _("Energy"),
    "pf": _("Power factor"),
    "freq_hz": _("Mains frequency"),
    "run_state": _("State"),
    "mode": _("Mode"),
    "level": _("Level"),
    "fault_code": _("Fault code"),
    "door_open": _("Door open"),
    "lid_open": _("Lid open"),
    "estop": _("Emergency stop"),
    "rssi_dbm": _("Signal strength"),
    "uptime_s": _("Running since start-up"),
    "fw": _("Firmware"),
    "water_flow_lpm": _("Water flow"),
    "water_total_l": _("Water counter"),
    "water_pressure_mpa": _("Water pressure"),
    "water_level_pct": _("Water level"),
    "level_low": _("Low-water probe"),
    "level_high": _("High-water probe"),
    "temp_c": _("Slurry temperature"),
    "temp_heater_c": _("Heater temperature"),
    "overflow_electrode": _("Overflow electrode"),
    "inlet_valve": _("Inlet valve"),
    "drain_valve": _("Drain valve"),
    "heater_on": _("Heater on"),
    "motor_on": _("Motor on"),
    "batch_id": _("Batch"),
    "recipe": _("Recipe"),
    "batch_target_l": _("Target volume"),
    "pm25_in_ugm3": _("PM2.5 at the intake"),
    "pm25_out_ugm3": _("PM2.5 at the outlet"),
    "co2_in_ppm": _("CO₂ indoors"),
    "temp_out_c": _("Outdoor temperature"),
    "temp_supply_c": _("Supply-air temperature"),
    "temp_room_c": _("Room temperature"),
    "rh_out_pct": _("Humidity outdoors"),
    "rh_room_pct": _("Humidity indoors"),
    "airflow_m3h": _("Airflow"),
    "fan_supply_rpm": _("Supply-fan speed"),
    "fan_exhaust_rpm": _("Exhaust-fan speed"),
    "filter_dp_pa": _("Filter pressure drop"),
    "filter_life_pct": _("Filter life"),
    "filter_used_h": _("Filter in use"),
    "ptc_on": _("Preheater on"),
    "damper_pct": _("Damper"),
    "bypass": _("Bypass"),
}
RUN_STATE_LABELS: Mapping[str, str] = {
    "offline": _("Offline"),
    "off": _("Off"),
    "standby": _("Standby"),
    "filling": _("Filling"),
    "soaking": _("Soaking"),
    "grinding": _("Grinding"),
    "heating": _("Heating"),
    "boil_hold": _("Holding the boil"),
    "filtering": _("Filtering"),
    "dispensing": _("Dispensing"),
    "keep_warm": _("Keeping warm"),
    "cleaning": _("Cleaning"),
    "starting": _("Starting up"),
    "running": _("In operation"),
    "preheating": _("Preheating"),
    "defrost": _("Defrosting"),
    "filter_service": _("Filter service"),
    "paused": _("Paused"),
    "fault": _("Fault"),
    "test": _("Test mode"),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: its title and its channels, which share one unit."""

    key: str
    title: str
    channels: tuple[str, ...]


PANELS: Mapping[str, tuple[Panel, ...]] = {
    "soymilk": (
        Panel("power", _("Power"), ("power_w",)),
        Panel("temperature", _("Temperature"), ("temp_c",)),
        Panel("water", _("Water flow"), ("water_flow_lpm",)),
        Panel("voltage", _("Mains voltage"), ("voltage_v",)),
    ),
    "freshair": (
        Panel("pm25", _("PM2.5"), ("pm25_in_ugm3", "pm25_out_ugm3")),
        Panel("power", _("Power"), ("power_w",)),
        Panel("airflow", _("Airflow"), ("airflow_m3h",)),
        Panel("pressure", _("Filter pressure drop"), ("filter_dp_pa",)),
        Panel("fan", _("Fan speed"), ("fan_supply_rpm",)),
        Panel("voltage", _("Mains voltage"), ("voltage_v",)),
    ),
}


def _top(levels: Sequence[float]) -> float:
    return levels[-1] if levels else 0.0


VOLTAGE_LIMITS: Mapping[int, tuple[float, float]] = {1: (198.0, 235.4), 3: (353.4, 406.6)}
"""Phases → lowest and highest mains voltage in V (equipment.md §6 R02, S9)."""

CardLimit = tuple[str, str, Callable[[ModelCard], float]]
CARD_LIMITS: tuple[CardLimit, ...] = (
    ("voltage_v", _("lowest permitted"), lambda card: VOLTAGE_LIMITS[card.phases][0]),
    ("voltage_v", _("highest permitted"), lambda card: VOLTAGE_LIMITS[card.phases][1]),
    ("power_w", _("rated heating power"), lambda card: card.p_heat_w),
    ("power_w", _("rated fan power"), lambda card: _top(card.p_fan_w)),
    ("temp_c", _("boiling"), lambda card: card.boiling_c if card.type == "soymilk" else 0.0),
    ("temp_c", _("keep-warm minimum"), lambda card: 60.0 if card.type == "soymilk" else 0.0),
    ("water_flow_lpm", _("lowest when filling"), lambda card: card.fill_lpm_min),
    ("airflow_m3h", _("rated"), lambda card: _top(card.airflow_m3h)),
    ("airflow_m3h", _("lowest permitted"), lambda card: 0.9 * _top(card.airflow_m3h)),
    ("filter_dp_pa", _("clean filter"), lambda card: card.dp_clean_pa),
    ("filter_dp_pa", _("change the filter"), lambda card: card.dp_final_pa),
    ("fan_supply_rpm", _("rated"), lambda card: _top(card.rpm)),
    ("pm25_out_ugm3", _("target outlet"), lambda card: 35.0 if card.type == "freshair" else 0.0),
)
"""Channel, name and value of each line that the model card draws; 0 draws none (equipment.md §7.1, §7.2)."""

CRITERION_CHANNEL: Mapping[str, str] = {
    "heating_power": "power_w",
    "fan_power": "power_w",
    "fan_speed": "fan_supply_rpm",
    "airflow": "airflow_m3h",
    "filter_pressure": "filter_dp_pa",
    "supply_pm25": "pm25_out_ugm3",
    "co2": "co2_in_ppm",
    "supply_temp": "temp_supply_c",
}
"""Criteria whose limits are in the unit of a channel: a run's own limits replace the card's there."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A horizontal line; ``bound`` is ``limit`` where a verdict depends on it, ``rated`` where it only orients."""

    channel: str
    label: str
    value: float
    bound: str = "limit"


ORIENTATION = frozenset({"rated heating power", "rated fan power", "rated", "boiling", "clean filter"})


def limits_of(card: ModelCard, criteria: Iterable[Mapping[str, Any]] = ()) -> tuple[Limit, ...]:
    """The lines of a model card; those of a run's ``criteria`` (verdict body) come first and replace the card's limits."""
    from_run = [
        Limit(channel, name, float(bound))
        for criterion in criteria
        if (channel := CRITERION_CHANNEL.get(str(criterion["key"]), ""))
        for name, bound in (
            (_("test run, lowest"), criterion.get("low")),
            (_("test run, highest"), criterion.get("high")),
        )
        if bound is not None
    ]
    replaced = {limit.channel for limit in from_run}
    from_card = [
        Limit(channel, name, round(value, 1), "rated" if name in ORIENTATION else "limit")
        for channel, name, value_of in CARD_LIMITS
        if (value := value_of(card)) and not (channel in replaced and name not in ORIENTATION)
    ]
    return (*from_run, *from_card)


@dataclass(frozen=True, slots=True)
class Band:
    """A shaded interval in ms; ``to_ms`` None lasts until now. ``tone`` is ``finding`` or ``run``."""

    from_ms: int
    to_ms: int | None
    label: Message
    tone: str


def bands_of(findings: Iterable[FindingRow], runs: Iterable[TestRun]) -> tuple[Band, ...]:
    """Findings and test runs as shaded intervals."""
    return (
        *(Band(f.raised_at_ms, f.cleared_at_ms, Message("Finding {rule}", rule=f.rule), "finding") for f in findings),
        *(
            Band(
                to_ms(run.started_at),
                to_ms(run.decided_at) if run.decided_at else None,
                Message("Test run {attempt}", attempt=run.attempt),
                "run",
            )
            for run in runs
        ),
    )


@dataclass(frozen=True, slots=True)
class ChartRange:
    """What was measured in a range: rows, the span of one row in s (0 = single samples), lines and bands."""

    equipment_type: str
    start_ms: int
    end_ms: int
    every_s: int
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...] = ()
    bands: tuple[Band, ...] = ()

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The charts that have at least one value."""
        seen = {key for row in self.rows for key in row.values}
        return tuple(panel for panel in PANELS[self.equipment_type] if seen & set(panel.channels))

    def payload(self, say: Callable[[str | Message], str], timezone: str) -> dict[str, Any]:
        """What ``chart.js`` draws: times in s, a null where a silence is longer than :data:`GAP_S`; texts already said."""
        times: list[float] = []
        rows: list[Mapping[str, Value]] = []
        for row in self.rows:
            at = row.ts / 1000
            if times and at - times[-1] > max(GAP_S, 2 * self.every_s):
                times.append(times[-1] + 1)
                rows.append({})
            times.append(at)
            rows.append(row.values)
        return {
            "from": self.start_ms / 1000,
            "to": self.end_ms / 1000,
            "every_s": self.every_s,
            "timezone": timezone,
            "times": times,
            "panels": [
                {
                    "key": panel.key,
                    "title": say(panel.title),
                    "unit": unit_of(self.equipment_type, panel.channels[0]),
                    "series": [
                        {"key": key, "label": say(CHANNEL_LABELS[key]), "values": [row.get(key) for row in rows]}
                        for key in panel.channels
                    ],
                    "limits": [
                        {"label": say(limit.label), "value": limit.value, "bound": limit.bound}
                        for limit in self.limits
                        if limit.channel in panel.channels
                    ],
                }
                for panel in self.panels
            ],
            "bands": [
                {
                    "from": band.from_ms / 1000,
                    "to": (self.end_ms if band.to_ms is None else band.to_ms) / 1000,
                    "label": say(band.label),
                    "tone": band.tone,
                }
                for band in self.bands
            ],
        }

    def table(self, at_most: int = 24) -> tuple[tuple[datetime, tuple[Value | None, ...]], ...]:
        """Evenly chosen rows with the values of :attr:`channels`, the newest first."""
        chosen = self.rows[:: -max(1, -(-len(self.rows) // at_most))] if self.rows else ()
        return tuple((from_ms(row.ts), tuple(row.values.get(key) for key in self.channels)) for row in chosen)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels of all panels."""
        return tuple(key for panel in self.panels for key in panel.channels)

    @property
    def heads(self) -> tuple[tuple[str, str], ...]:
        """Label and unit of each of :attr:`channels`."""
        return tuple((CHANNEL_LABELS[key], unit_of(self.equipment_type, key)) for key in self.channels)


def unit_of(equipment_type: str, channel: str) -> str:
    """The unit of a channel; '' where it has none."""
    found = EQUIPMENT[equipment_type].channels.get(channel)
    return found.unit if found else ""


def usable_minutes(asked: int) -> int:
    """The nearest offered range that is not shorter."""
    return next((minutes for minutes in RANGES_MIN if minutes >= asked), RANGES_MIN[-1])


def usable_channels(equipment_type: str, asked: str) -> tuple[str, ...]:
    """The channels named in a comma list that a chart of this type can show; all of them where none is named."""
    offered = tuple(key for panel in PANELS[equipment_type] for key in panel.channels)
    wanted = {key.strip() for key in asked.split(",") if key.strip()}
    return tuple(key for key in offered if not wanted or key in wanted)


def read_range(
    telemetry: Telemetry,
    serial: str,
    equipment_type: str,
    *,
    now: datetime,
    minutes: int,
    channels: Sequence[str] = (),
    limits: tuple[Limit, ...] = (),
    bands: tuple[Band, ...] = (),
) -> ChartRange:
    """The last ``minutes`` of a machine: single samples up to an hour, means beyond. Raises UnavailableError."""
    span = timedelta(minutes=minutes)
    start_ms, end_ms = to_ms(now - span), to_ms(now) + 1
    wanted = tuple(channels) or usable_channels(equipment_type, "")
    if minutes <= RAW_UP_TO_MIN:
        every_s, rows = 0, telemetry.range(serial, equipment_type, start_ms, end_ms, wanted)
    else:
        every_s = next((s for s in STEPS_S if span.total_seconds() / s <= POINTS), STEPS_S[-1])
        rows = telemetry.downsampled(serial, equipment_type, start_ms, end_ms, wanted, every_s)
    return ChartRange(equipment_type, start_ms, end_ms, every_s, tuple(rows), limits, bands)


def chart_of(
    session: Session, telemetry: Telemetry, machine: Equipment, now: datetime, minutes: int, channels: str = ""
) -> ChartRange:
    """The last ``minutes`` of a machine with its limits, findings and test runs. Raises UnavailableError."""
    start = now - timedelta(minutes=minutes)
    runs = service.runs_between(session, machine.serial, start, now)
    judged = next((run.progress.get("criteria", ()) for run in reversed(runs)), ())
    return read_range(
        telemetry,
        machine.serial,
        machine.type,
        now=now,
        minutes=minutes,
        channels=usable_channels(machine.type, channels),
        limits=limits_of(card_for(machine), judged) if machine.model in EQUIPMENT[machine.type].cards else (),
        bands=bands_of(service.findings_between(session, machine.serial, to_ms(start), to_ms(now)), runs),
    )
