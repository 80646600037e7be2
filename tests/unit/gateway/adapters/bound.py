"""A decoder with one machine of each convention bound to a foreign name."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import orjson

from domain.readings import Reading
from gateway.adapters.registry import ADAPTERS
from gateway.ingest.decode import Decoder
from gateway.messages import Decoded, Message, Quarantined, Registry, Unit

NOW = 1_795_000_000_000
SHANGHAI = ZoneInfo("Asia/Shanghai")


def unit(serial: str, kind: str, convention: str, topic: str) -> Unit:
    return Unit(serial, kind, "", convention=convention, topic=topic, zone=SHANGHAI)


class Bound:
    """Decodes for these machines only; ``unknown`` are the keys that no channel has."""

    def __init__(self, *units: Unit) -> None:
        self.registry = Registry.of(units)
        self.decoder = Decoder(ADAPTERS.values(), self.registry, known_only=True)

    def all(self, topic: str, payload: Any, recv_ms: int = NOW, *, retained: bool = False) -> list[Decoded]:
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        return self.decoder.decode(Message(topic, body, recv_ms, retained))

    def one(self, topic: str, payload: Any, recv_ms: int = NOW, *, retained: bool = False) -> Any:
        (found,) = self.all(topic, payload, recv_ms, retained=retained)
        return found

    def reading(self, topic: str, payload: Any, recv_ms: int = NOW, *, retained: bool = False) -> Reading:
        found = self.one(topic, payload, recv_ms, retained=retained)
        assert isinstance(found, Reading), found
        return found

    def values(self, topic: str, payload: Any, recv_ms: int = NOW) -> dict[str, Any]:
        return dict(self.reading(topic, payload, recv_ms).values)

    def reason(self, topic: str, payload: Any) -> str:
        found = self.one(topic, payload)
        assert isinstance(found, Quarantined), found
        return found.reason.value

    @property
    def unknown(self) -> dict[str, int]:
        return dict(self.decoder.strangers)
