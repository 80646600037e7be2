"""Which fields a reading is stored as, and of which type: the catalogue decides, so that a field's type never drifts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from domain.catalogue.registry import EQUIPMENT
from domain.readings import Reading, Value

DEVICE_TS = "device_ts"
SIMULATED = "simulated"
"""Fields beside the channels: the device's clock in ms where it was not believed, and that the sample is simulated."""

_CASTS: Mapping[str, Callable[[Any], Value]] = {"float": float, "str": str, "bool": bool}
_CAST_OF: Mapping[str, Mapping[str, Callable[[Any], Value]]] = {
    equipment.key: {
        **{channel.key: _CASTS[channel.kind] for channel in equipment.channels.values()},
        DEVICE_TS: float,
        SIMULATED: bool,
    }
    for equipment in EQUIPMENT.values()
}

WITH_MEANS = tuple(sorted({key for casts in _CAST_OF.values() for key, cast in casts.items() if cast is float}))
"""Every field that has a mean."""


def fields_of(reading: Reading) -> dict[str, Value]:
    """The fields to store of one reading, in the types of the catalogue; empty where it has nothing to store."""
    casts = _CAST_OF[reading.type]
    fields = {key: casts[key](value) for key, value in reading.values.items() if key in casts}
    if fields and reading.device_ts is not None:
        fields[DEVICE_TS] = float(reading.device_ts)
    if fields and reading.simulated:
        fields[SIMULATED] = True
    return fields


def as_stored(equipment_type: str, raw: Mapping[str, Any]) -> dict[str, Value]:
    """Fields as a store gives them back (JSON), in the types of the catalogue again; nulls and strangers are left out."""
    casts = _CAST_OF[equipment_type]
    return {key: casts[key](value) for key, value in raw.items() if value is not None and key in casts}


def numeric(equipment_type: str, channels: Iterable[str]) -> list[str]:
    """Those of ``channels`` that have a mean."""
    casts = _CAST_OF[equipment_type]
    return [key for key in channels if casts.get(key) is float]
