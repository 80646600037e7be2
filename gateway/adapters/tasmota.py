"""Tasmota (equipment.md §8.1): ``tele/<topic>/SENSOR`` and ``tele/<topic>/LWT``.

Its time is local and without a zone: the zone is the machine's. Of a particle sensor's figures ``PM…`` (atmospheric) is air
quality, ``CF…`` (standard particle) is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from domain.catalogue.common import PHASES
from domain.clock import to_ms
from domain.readings import Reading
from gateway import samples
from gateway.adapters.fields import stranger
from gateway.adapters.port import Command, Publication
from gateway.messages import Decoded, Message, Reason, Registry, Status, Unit, Unusable

ENERGY: Mapping[tuple[str, str], str] = {
    ("ENERGY", "Power"): "power_w",
    ("ENERGY", "Voltage"): "voltage_v",
    ("ENERGY", "Current"): "current_a",
    ("ENERGY", "Factor"): "pf",
    ("ENERGY", "Frequency"): "freq_hz",
    ("ENERGY", "Total"): "energy_kwh",
}
FIELDS: Mapping[str, Mapping[tuple[str, str], str]] = {
    "soymilk": {**ENERGY, ("DS18B20", "Temperature"): "temp_c"},
    # A sensor on a plug stands in the room: what the unit delivers.
    "freshair": {
        **ENERGY,
        **{(sensor, "PM2.5"): "pm25_out_ugm3" for sensor in ("PMS5003", "SDS0X1", "HPMA")},
        **{(sensor, "Temperature"): "temp_room_c" for sensor in ("BME280", "SHT3X", "SCD30")},
        **{(sensor, "Humidity"): "rh_room_pct" for sensor in ("BME280", "SHT3X", "SCD30")},
        **{(sensor, "CarbonDioxide"): "co2_in_ppm" for sensor in ("SCD30", "MHZ19B")},
    },
}
ENVELOPE = frozenset(("Time", "TempUnit", "PressureUnit", "SpeedUnit"))
STATES = {b"Online": True, b"Offline": False}
FASTEST_S, SLOWEST_S = 10, 3600
"""Range of TelePeriod."""


class TasmotaAdapter:
    """Machines behind a Tasmota plug or sensor board."""

    convention = "tasmota"
    filters = ("tele/+/SENSOR", "tele/+/LWT")
    commands = ("cmnd/+/TelePeriod", "cmnd/+/Power")

    def decode(self, message: Message, registry: Registry, strangers: Counter[str]) -> list[Decoded] | None:
        """One sample, or a state."""
        parts = message.topic.split("/")
        if len(parts) != 3 or parts[0] != "tele" or parts[2] not in ("SENSOR", "LWT"):
            return None
        unit = registry.bound.get((self.convention, parts[1]))
        if unit is None:
            raise stranger(self.convention, parts[1])
        return [_state(unit, message) if parts[2] == "LWT" else _sample(unit, message, strangers)]

    def command(self, unit: Unit, command: Command) -> Publication | None:
        """The sampling interval, and switching off."""
        if command.name in ("set_interval", "test_mode"):
            wanted = min(max(round(float(command.params["interval_s"])), FASTEST_S), SLOWEST_S)
            return Publication(f"cmnd/{unit.topic}/TelePeriod", str(wanted).encode(), answers=False)
        if command.name == "stop":
            return Publication(f"cmnd/{unit.topic}/Power", b"OFF", answers=False)
        return None


def _state(unit: Unit, message: Message) -> Status:
    if message.payload not in STATES:
        raise Unusable(Reason.WRONG_TYPE, "LWT is Online or Offline")
    return Status(unit.serial, STATES[message.payload], message.recv_ms, message.retained)


def _sample(unit: Unit, message: Message, strangers: Counter[str]) -> Reading:
    body = samples.parse(message.payload)
    if type(body) is not dict:
        raise Unusable(Reason.WRONG_TYPE, "a SENSOR message must be an object")
    names = FIELDS.get(unit.type, ENERGY)
    fields: dict[str, Any] = {}
    for sensor, key, given in _figures(body):
        channel = names.get((sensor, key))
        if channel is None:
            samples.note(strangers, f"{sensor}.{key}")
        elif channel.startswith("temp_") and body.get("TempUnit") == "F":
            fields[channel] = (samples.number(channel, given) - 32.0) / 1.8
        else:
            fields.update(_phases(channel, given))
    values, rejected = samples.split(unit.type, fields, strangers)
    reading = Reading(
        unit.serial, unit.type, _time(unit, body.get("Time")), values, rejected=rejected, recv_ms=message.recv_ms
    )
    return samples.on_time([reading], message.recv_ms)[0]


def _figures(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for sensor, figures in body.items():
        if isinstance(figures, dict):
            for key, given in figures.items():
                yield sensor, key, given
        elif sensor not in ENVELOPE:
            yield sensor, "", figures


def _phases(channel: str, given: Any) -> Mapping[str, Any]:
    """A three-phase meter gives lists: power is summed, voltage and current are per phase."""
    if not isinstance(given, list):
        return {channel: given}
    if channel == "power_w":
        return {channel: sum(samples.number(channel, one) for one in given)}
    if channel in ("voltage_v", "current_a"):
        return {f"{channel}_{phase}": one for phase, one in zip(PHASES, given, strict=False)}
    return {}


def _time(unit: Unit, given: Any) -> int:
    if given is None:
        raise Unusable(Reason.MISSING_TS, "Time is missing")
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise Unusable(Reason.WRONG_TYPE, "Time must be an ISO time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=unit.zone or UTC)
    try:
        return to_ms(moment)
    except OverflowError:
        raise Unusable(Reason.WRONG_TYPE, "Time is out of range") from None
