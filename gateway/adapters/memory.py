"""What an adapter must remember where a message says only what has changed.

Memory belongs to the adapter and thereby to the one decoder that made it: it is a function of the messages that this decoder
has read, in their order, and of nothing else. It begins empty, so that after a restart samples are partial, never invented,
until the device has said everything again; from a full snapshot on nothing before it matters. What was said in a message that
had to be refused is unknown, so it must not be taken for unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.messages import Registry, Unit

MACHINES = 50_000
"""So many machines are remembered at most; of more the one heard of first is forgotten."""


@dataclass(slots=True)
class _State:
    binding: tuple[str, str, str]
    ts: int
    said: dict[Any, Any]


class Overlay:
    """The last state of each machine. After a silence of more than ``hole_ms`` nobody knows what else has changed."""

    def __init__(self, hole_ms: int | None = None) -> None:
        self._hole_ms = hole_ms
        self._states: dict[str, _State] = {}

    def part(self, unit: Unit, ts: int, said: Mapping[Any, Any]) -> dict[Any, Any]:
        """The machine's state at ``ts`` (ms) after it ``said`` this; None takes a value back.

        Something older than what was said last stands alone and is not remembered.
        """
        binding = (unit.type, unit.convention, unit.topic)
        state = self._states.get(unit.serial)
        if state is not None and state.binding == binding and ts < state.ts:
            return _known(said)
        if state is None or state.binding != binding or (self._hole_ms is not None and ts - state.ts > self._hole_ms):
            self.forget(unit)
            state = self._states[unit.serial] = _State(binding, ts, {})
            if len(self._states) > MACHINES:
                del self._states[next(iter(self._states))]
        state.ts = ts
        state.said = _known({**state.said, **said})
        return dict(state.said)

    def whole(self, unit: Unit, ts: int, said: Mapping[Any, Any]) -> dict[Any, Any]:
        """The same where the machine ``said`` everything."""
        self.forget(unit)
        return self.part(unit, ts, said)

    def forget(self, *units: Unit) -> None:
        """A new session, or news that were missed: nothing is known."""
        for unit in units:
            self._states.pop(unit.serial, None)


def _known(said: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in said.items() if value is not None}


class Bindings:
    """The machines of one convention that share the first ``levels`` levels of their foreign name."""

    def __init__(self, convention: str, levels: int) -> None:
        self._convention, self._levels = convention, levels
        self._registry: Registry | None = None
        self._units: dict[str, list[Unit]] = {}

    def of(self, registry: Registry, head: str) -> Sequence[Unit]:
        """All machines whose foreign name begins with ``head``."""
        if registry is not self._registry:
            self._registry, self._units = registry, {}
            for (convention, topic), unit in registry.bound.items():
                if convention == self._convention:
                    self._units.setdefault("/".join(topic.split("/")[: self._levels]), []).append(unit)
        return self._units.get(head, ())
