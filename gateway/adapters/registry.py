"""ADAPTERS: every convention the gateway understands. Another one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from domain import wire
from gateway.adapters.airgradient import AirGradientAdapter
from gateway.adapters.alink import AlinkAdapter
from gateway.adapters.homie import HomieAdapter
from gateway.adapters.miot import MiotAdapter
from gateway.adapters.native import NativeAdapter
from gateway.adapters.port import Adapter
from gateway.adapters.shelly import ShellyAdapter
from gateway.adapters.sparkplug import SparkplugAdapter
from gateway.adapters.tasmota import TasmotaAdapter
from gateway.adapters.tuya import TuyaAdapter
from gateway.adapters.zigbee2mqtt import Zigbee2MqttAdapter


class Line(NamedTuple):
    """A convention: its adapter, an example of a topic, and which levels of a topic are the machine's foreign name."""

    make: Callable[[], Adapter]
    topic: str
    name: tuple[int, ...] = ()


LINES = (
    Line(NativeAdapter, wire.up("soymilk", "SM-1", "telemetry")),
    Line(TasmotaAdapter, "tele/kitchen/SENSOR", (1,)),
    Line(AlinkAdapter, "/sys/a1B2c3D4e5F/kitchen/thing/event/property/post", (2, 3)),
    Line(TuyaAdapter, "tuya/xfj/bf0123456789abcdef", (1, 2)),
    Line(MiotAdapter, "miot/dmaker.airfresh.a1/123456789", (1, 2)),
    Line(AirGradientAdapter, "airgradient/readings/ecda3b1eaaaf", (2,)),
    Line(HomieAdapter, "homie/kitchen/meter/power-w", (1,)),
    Line(SparkplugAdapter, "spBv1.0/canteen/DDATA/edge-1/kitchen", (1, 3, 4)),
    Line(Zigbee2MqttAdapter, "zigbee2mqtt/kitchen", (1,)),
    Line(ShellyAdapter, "shellyem-1/events/rpc", (0,)),
)
"""The narrower a convention's topics, the earlier it is asked."""


class Conventions(Mapping[str, Adapter]):
    """Adapters by convention. Each look-up makes a new one, so that whoever decodes has a memory of its own."""

    def __init__(self, lines: tuple[Line, ...]) -> None:
        self.lines: Mapping[str, Line] = {line.make().convention: line for line in lines}

    def __getitem__(self, convention: str) -> Adapter:
        return self.lines[convention].make()

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


ADAPTERS = Conventions(LINES)
