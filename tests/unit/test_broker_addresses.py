"""BREWAIR_MQTT_URL: one broker, or every node of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import SettingsError
from domain.settings import load


@pytest.mark.parametrize(
    ("url", "brokers"),
    [
        ("mqtt://127.0.0.1", (("127.0.0.1", 1883),)),
        ("mqtts://broker.example", (("broker.example", 8883),)),
        ("mqtt://a:1883,b:1884,c", (("a", 1883), ("b", 1884), ("c", 1883))),
        ("mqtts://a, b:1?version=5", (("a", 8883), ("b", 1))),
        ("mqtt://[::1]:1884,a", (("::1", 1884), ("a", 1883))),
    ],
)
def test_addresses(tmp_path: Path, url: str, brokers: tuple[tuple[str, int], ...]) -> None:
    assert load({"BREWAIR_DATA_DIR": str(tmp_path), "BREWAIR_MQTT_URL": url}).brokers == brokers


@pytest.mark.parametrize(
    "url", ["", "mqtt://", "mqtt://a,,b", "mqtt://a,", "http://a", "mqtt://a:x", "mqtt://a:99999", "a:1883"]
)
def test_nonsense_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="BREWAIR_MQTT_URL"):
        load({"BREWAIR_DATA_DIR": str(tmp_path), "BREWAIR_MQTT_URL": url})
