"""The shapes of the catalogue: channels, model cards, equipment types. Data only; rules and plans have files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from domain.errors import InvalidError

ChannelKind = Literal["float", "str", "bool"]


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured or reported quantity (equipment.md §2). ``low``/``high`` are the range of the wire, not limits of health."""

    key: str
    kind: ChannelKind = "float"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    minimum: bool = False
    """True for tier M, the user's named minimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Nameplate of one product model; drives all thresholds. Lists are by level, level 1 first. 0 or () means 'has none'.

    Keys as in equipment.md §2; ``heater_elements`` is the number of parallel heating elements (R03's n).
    """

    key: str
    type: str
    name_zh: str = ""
    name_en: str = ""
    rated_v: float = 220.0
    phases: int = 1
    p_heat_w: float = 0.0
    heater_elements: int = 1
    p_motor_w: float = 0.0
    p_fan_w: tuple[float, ...] = ()
    p_standby_w: float = 0.0
    batch_l: float = 0.0
    fill_lpm_min: float = 0.0
    t_boil_hold_s: float = 300.0
    site_altitude_m: float = 0.0
    airflow_m3h: tuple[float, ...] = ()
    rpm: tuple[float, ...] = ()
    eta_pm25: float = 0.0
    dp_clean_pa: float = 0.0
    dp_final_pa: float = 0.0
    pm25_out_at: Literal["supply", "room"] = "supply"
    sensor_err_abs: float = 10.0
    sensor_err_rel: float = 0.10

    @property
    def boiling_c(self) -> float:
        """Boiling temperature at the site: 100 − altitude/300 (equipment.md §7.1, EJ)."""
        return 100.0 - self.site_altitude_m / 300.0


_POSSIBLE: Mapping[str, tuple[float, float]] = {
    "rated_v": (50.0, 1000.0),
    "phases": (1, 3),
    "heater_elements": (1, 100),
    "eta_pm25": (0.0, 1.0),
    "site_altitude_m": (-500.0, 6000.0),
    "p_fan_w": (0.1, 1e6),
    "airflow_m3h": (0.1, 1e6),
    "rpm": (0.1, 1e6),
}
"""What a nameplate can say (EJ): thresholds are shares of these, and what is divided by is never 0. All else 0 … 1e6."""


def card_from_mapping(given: Mapping[str, object], *, equipment_type: str) -> ModelCard:
    """A card given on the spot (TOML). ``type`` and ``key`` are optional.

    Raises InvalidError, naming the key, for unknown keys, for values of the wrong type or that no machine has, and for a
    ``type`` that contradicts.
    """
    known = {f.name: f for f in fields(ModelCard)}
    values: dict[str, object] = {"key": "card", "type": equipment_type}
    defaults = ModelCard(key="card", type=equipment_type)
    for key, value in given.items():
        if key not in known:
            raise InvalidError("Unknown key {key} in the model card", field=key, key=key)
        values[key] = _fitting(key, value, getattr(defaults, key))
    if values["type"] != equipment_type:
        raise InvalidError(
            "The card is for type {type}, not {wanted}", field="type", type=values["type"], wanted=equipment_type
        )
    if values.get("phases") == 2:
        raise InvalidError("phases must be 1 or 3", field="phases")
    if values.get("pm25_out_at", "supply") not in ("supply", "room"):
        raise InvalidError("pm25_out_at must be supply or room", field="pm25_out_at")
    return ModelCard(**values)  # type: ignore[arg-type]


def _fitting(key: str, value: object, default: object) -> object:
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(_fitting(key, item, 0.0) for item in value)
    if isinstance(default, tuple):
        return (_fitting(key, value, 0.0),)
    if isinstance(default, str) and isinstance(value, str):
        return value
    whole = isinstance(default, int)
    if (
        not isinstance(default, str)
        and isinstance(value, int if whole else (int, float))
        and not isinstance(value, bool)
    ):
        low, high = _POSSIBLE.get(key, (0.0, 1e6))
        if not low <= value <= high:  # nan is nowhere
            raise InvalidError(
                "The model card's {key} must be from {low} to {high}, not {value}",
                field=key, key=key, low=f"{low:g}", high=f"{high:g}", value=value,
            )  # fmt: skip
        return value if whole else float(value)
    raise InvalidError("The model card's {key} cannot be {value}", field=key, key=key, value=repr(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class EquipmentType:
    """One kind of equipment. ``active_states`` are those that count as net active time in a test run (equipment.md §7.0)."""

    key: str
    name_zh: str
    name_en: str
    channels: Mapping[str, Channel]
    states: tuple[str, ...]
    active_states: frozenset[str]
    cards: Mapping[str, ModelCard]
