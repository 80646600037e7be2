"""A place for each fault test, with the receivers that it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.place import FULL, Place, build
from tests.servers import InfluxDB, Mosquitto

Open = Callable[..., Place]


FULL_S = 3600
"""How long one fault may take at full length."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if FULL else ():
        if "fault" in item.keywords and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(FULL_S))


@pytest.fixture
def open_place(
    tmp_path: Path,
    mosquitto: Mosquitto,
    influxdb: InfluxDB,
    record_property: Callable[[str, object], None],
) -> Iterator[Open]:
    """Makes a place; ``wrapper`` is a program that runs the gateway, ``start=False`` leaves starting it to the test."""
    with ExitStack() as stack:

        def make(*, wrapper: tuple[str, ...] = (), start: bool = True, **settings: Any) -> Place:
            place = build(tmp_path, mosquitto, influxdb, record_property, **settings)
            stack.callback(_close, place)
            if start:
                place.gateway.start(*wrapper)
                place.gateway.wait_connected()
            return place

        yield make


VARIANTS = {
    "native": {"BREWAIR_MQTT_RECEIVER": "native"},
    "paho": {"BREWAIR_MQTT_RECEIVER": "paho"},
    "python": {"BREWAIR_MQTT_RECEIVER": "native", "BREWAIR_GATEWAY_CORE": "python"},
}
every_variant = pytest.mark.parametrize("place", VARIANTS, indirect=True)
"""For tests that are short: without the compiled core, too."""


@pytest.fixture(params=["native", "paho"])
def place(request: pytest.FixtureRequest, open_place: Open) -> Place:
    """A running gateway, once with each receiver."""
    return open_place(**VARIANTS[request.param])


def _close(place: Place) -> None:
    place.gateway.kill()
    for publisher in place.publishers:
        publisher.close()
    place.sessions.engine.dispose()
    if place.gateway.log_path.exists():
        print(place.gateway.log_path.read_text(encoding="utf-8")[-6000:])
