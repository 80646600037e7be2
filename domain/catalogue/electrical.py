"""Mains voltage and voltage-normalised power (equipment.md §0.5): ±10 % of supply alone moves a heater by ±20 %."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan, sqrt

from domain.catalogue.model import ModelCard
from domain.readings import Value

_PHASES = ("voltage_v_a", "voltage_v_b", "voltage_v_c")
_LINE_TO_NEUTRAL = 0.75
"""On a three-phase card a voltage below this share of the rated one was measured against neutral (EJ; 1/√3 = 0.58)."""
_NO_SUPPLY = 0.3
"""Below this share of the rated voltage a normalised power says nothing (EJ)."""

_BANDS = {1: (198.0, 235.4, 155.0, 275.0), 3: (353.4, 406.6, 268.5, 476.3)}
"""V by phases: legal low, high [S9]; dangerous low, high [S1 E5], between phases √3 as much."""


def supply_limits(card: ModelCard) -> tuple[float, float, float, float]:
    """Legal low and high, dangerous low and high voltage of such a machine's supply in V."""
    return _BANDS[3 if card.phases == 3 else 1]


def mains_span(values: Mapping[str, Value], card: ModelCard) -> tuple[float, float]:
    """Lowest and highest voltage reported in V, phase against phase on a three-phase card; (nan, nan) where there is none."""
    total = values.get("voltage_v")
    if type(total) is float and values.keys().isdisjoint(_PHASES):  # almost every sample
        if card.phases == 3 and total < _LINE_TO_NEUTRAL * card.rated_v:
            total *= sqrt(3)
        return total, total
    given = [v for v in (total, *(values.get(key) for key in _PHASES)) if isinstance(v, (int, float))]
    if not given:
        return nan, nan
    if card.phases == 3:
        neutral = _LINE_TO_NEUTRAL * card.rated_v
        given = [v * sqrt(3) if v < neutral else v for v in given]
    return min(given), max(given)


def normalised_w(power_w: float, volts: float, card: ModelCard) -> float:
    """Pn = P·(rated/U)² in W; P itself where the voltage is absent (nan) or no supply at all."""
    return power_w * (card.rated_v / volts) ** 2 if volts > _NO_SUPPLY * card.rated_v else power_w
