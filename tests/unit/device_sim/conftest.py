"""Recordings that several tests of the simulator look at."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.device_sim.machines import START, machine, objects, soymilk


@pytest.fixture(scope="session")
def two_hours() -> list[dict[str, Any]]:
    """Samples of a whole 30 % batch of an SMM-60 at 5 s."""
    return objects(machine(soymilk(batches=(60,)), interval_s=5).advance(START + 7_200_000))
