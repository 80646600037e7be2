"""From a message to what it means. Never raises: what cannot be used becomes a Quarantined with its reason."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable

from domain import wire
from domain.readings import Reading
from domain.strangers import native
from gateway import samples
from gateway.adapters.port import Adapter, Asking, Publication
from gateway.messages import Birth, Decoded, Message, Quarantined, Reason, Registry, Reply, Status, Unusable


class Decoder:
    """Decodes messages in the order in which they came; remembers only which machines called themselves simulated.

    ``registry`` may be replaced at any time. With ``known_only`` messages of machines that are not in it are quarantined.
    ``refresh`` is asked once for a newer registry before a machine counts as unknown. ``strangers`` counts keys that no
    channel has.
    """

    def __init__(
        self,
        adapters: Iterable[Adapter],
        registry: Registry,
        *,
        known_only: bool,
        refresh: Callable[[], bool] | None = None,
    ) -> None:
        self.registry = registry
        self._refresh = refresh or (lambda: False)
        self.strangers: Counter[str] = Counter()
        self._adapters = tuple(adapters)
        self._known_only = known_only
        self.simulated: dict[str, bool] = {}
        """What machines have called themselves."""

    def decode(self, message: Message) -> list[Decoded]:
        """What the message says, object by object."""
        try:
            return self._looked_up(message)
        except Unusable as unusable:
            return [samples.held(unusable, message.payload, _serial(message.topic))]
        except Exception as error:  # poison must never stop the loop
            broken = Unusable(Reason.INTERNAL, f"{type(error).__name__}: {error}")
            return [samples.held(broken, message.payload, _serial(message.topic))]

    def requests(self) -> list[Publication]:
        """What machines have to be asked for, so that what they say is understood again."""
        return [one for adapter in self._adapters if isinstance(adapter, Asking) for one in adapter.requests()]

    def _looked_up(self, message: Message) -> list[Decoded]:
        try:
            return [self._marked(message, decoded) for decoded in self._by_convention(message)]
        except Unusable as unusable:
            if unusable.reason is not Reason.UNKNOWN_SERIAL or not self._refresh():
                raise
        return [self._marked(message, decoded) for decoded in self._by_convention(message)]

    def _by_convention(self, message: Message) -> list[Decoded]:
        for adapter in self._adapters:
            decoded = adapter.decode(message, self.registry, self.strangers)
            if decoded is not None:
                return decoded
        raise Unusable(Reason.UNKNOWN_TOPIC, "no convention has this topic")

    def _marked(self, message: Message, decoded: Decoded) -> Decoded:
        if isinstance(decoded, Quarantined):
            return decoded
        unit = self.registry.units.get(decoded.serial)
        if unit is None and self._known_only:
            raise _unregistered(message, decoded)
        if isinstance(decoded, Birth):
            self.simulated[decoded.serial] = decoded.simulated
        elif isinstance(decoded, Reading) and self.simulated.get(decoded.serial, unit is not None and unit.simulated):
            return dataclasses.replace(decoded, simulated=True)
        return decoded


def _unregistered(message: Message, decoded: Birth | Reading | Reply | Status) -> Unusable:
    topic = wire.parse_up(message.topic)
    stranger = None
    if topic is not None and isinstance(decoded, Birth):
        stranger = native(topic.type, topic.serial, decoded.model, decoded.fw)
    elif topic is not None:
        stranger = native(topic.type, topic.serial)
    return Unusable(Reason.UNKNOWN_SERIAL, f"no machine {decoded.serial} is registered", stranger)


def _serial(topic: str) -> str | None:
    """The serial number that a native topic claims, for people who look for it."""
    parts = topic.split("/")
    native_one = len(parts) > 4 and topic.startswith(f"{wire.ROOT}/") and parts[4].isprintable()
    return parts[4][:64] if native_one else None
