"""The span of the mains: what was reported, phase against phase."""

from __future__ import annotations

import math

import pytest

from domain.catalogue.electrical import mains_span
from domain.catalogue.model import ModelCard
from domain.catalogue.soymilk.cards import CARDS
from domain.readings import Value

ONE, THREE = CARDS["SMM-25"], CARDS["SMM-60"]
NEUTRAL = 220.0 * math.sqrt(3)


@pytest.mark.parametrize(
    ("card", "values", "span"),
    [
        (ONE, {"voltage_v": 219.5}, (219.5, 219.5)),
        (ONE, {"voltage_v": 120.0}, (120.0, 120.0)),
        (THREE, {"voltage_v": 379.5}, (379.5, 379.5)),
        (THREE, {"voltage_v": 220.0}, (NEUTRAL, NEUTRAL)),  # measured against neutral
        (THREE, {"voltage_v": 380.0, "voltage_v_b": 370.0}, (370.0, 380.0)),
        (THREE, {"voltage_v_a": 220.0, "voltage_v_b": 380.0}, (380.0, NEUTRAL)),
        (THREE, {"voltage_v": 380}, (380, 380)),
    ],
)
def test_span(card: ModelCard, values: dict[str, Value], span: tuple[float, float]) -> None:
    assert mains_span(values, card) == pytest.approx(span)


def test_nothing_reported_is_no_number() -> None:
    assert all(math.isnan(volts) for volts in mains_span({"power_w": 1.0}, THREE))
