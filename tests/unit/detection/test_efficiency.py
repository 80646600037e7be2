"""η_min against the table of equipment.md §4, which rounds to two places, sometimes upwards."""

import pytest

from domain.catalogue.freshair.efficiency import eta_min

TABLE = {
    0.90: (0.46, 0.63, 0.73, 0.78, 0.82, 0.85),
    0.95: (0.53, 0.69, 0.79, 0.83, 0.87, 0.91),
    0.99: (0.59, 0.74, 0.84, 0.88, 0.92, 0.95),
}


@pytest.mark.parametrize(
    ("eta", "c_in", "expected"),
    [
        (eta, c_in, value)
        for eta, row in TABLE.items()
        for c_in, value in zip((35, 50, 75, 100, 150, 300), row, strict=True)
    ],
)
def test_matches_the_table(eta: float, c_in: float, expected: float) -> None:
    assert eta_min(c_in, eta) == pytest.approx(expected, abs=0.0061)


def test_air_within_the_sensor_error_says_nothing() -> None:
    assert eta_min(10, 0.95) == float("-inf")


def test_a_better_sensor_demands_more() -> None:
    assert eta_min(100, 0.95, err_abs=5, err_rel=0.05) > eta_min(100, 0.95)
