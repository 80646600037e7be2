"""What the fault rules speak of: the figures of one moment of one machine, and what must be remembered to know them.

A figure that is absent is nan, so that no comparison with it holds; a flag that is absent is None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import nan
from typing import Any, ClassVar, Self

from domain.catalogue.electrical import mains_span, supply_limits
from domain.catalogue.model import ModelCard
from domain.readings import Reading, Value

LEFT_ALONE_MS = 90_000
"""A figure counted over time starts anew after a hole longer than this (EJ)."""


class Memory:
    """Something whose remembered attributes, listed in ``MEMORY``, can be written as JSON and read back."""

    __slots__ = ()
    MEMORY: ClassVar[tuple[str, ...]] = ()

    def dump(self) -> dict[str, Any]:
        """JSON-able memory."""
        return {name: _plain(getattr(self, name)) for name in self.MEMORY}

    def restore(self, dumped: Mapping[str, Any]) -> Self:
        """Take over what ``dump`` wrote; names that are no longer known are left out."""
        for name in self.MEMORY:
            if name in dumped:
                present, value = getattr(self, name), dumped[name]
                setattr(self, name, deque(value, present.maxlen) if isinstance(present, deque) else value)
        return self


def _plain(value: Any) -> Any:
    if isinstance(value, (deque, list)):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


class Facts(Memory):
    """The figures that all types share. ``state_ms`` is the time in this state, ``reported`` whether the machine said so;
    ``legal_low`` … ``danger_high`` are limits of the supply in V.
    """

    __slots__ = (
        "card", "changed", "code", "code_ts", "danger_high", "danger_low", "dt_ms", "last_ts", "legal_high", "legal_low",
        "level", "pn", "power", "reference", "rejected", "reported", "state", "state_ms", "state_since", "ts", "values",
        "volt_high", "volt_low",
    )  # fmt: skip
    CONSTANT: ClassVar[frozenset[str]] = frozenset(
        ("card", "danger_high", "danger_low", "legal_high", "legal_low", "reference")
    )
    """What depends on the nameplate and the unit's own normal figures alone."""
    MEMORY: ClassVar[tuple[str, ...]] = ("last_ts", "state", "state_since", "code", "code_ts")

    def __init__(self, card: ModelCard, reference: Mapping[str, float]) -> None:
        """``reference``: the unit's own normal figures (W by state, Pa), where they were learned."""
        self.card, self.reference = card, reference
        self.legal_low, self.legal_high, self.danger_low, self.danger_high = supply_limits(card)
        self.last_ts: int | None = None
        self.state, self.state_since, self.state_ms = "", 0, 0
        self.ts = self.dt_ms = 0
        self.changed = self.reported = False
        self.values: Mapping[str, Value] = {}
        self.rejected: Mapping[str, float] = {}
        self.power = self.pn = self.volt_low = self.volt_high = self.level = nan
        self.code: str = ""
        self.code_ts = 0

    def update(self, reading: Reading, state: str, pn: float) -> None:
        """Take in the next sample in order of time; ``state`` and ``pn`` as the state inference saw them."""
        values = self.values = reading.values
        ts = self.ts = reading.ts
        self.dt_ms = ts - self.last_ts if self.last_ts is not None else 0
        self.last_ts = ts
        self.rejected = reading.rejected
        self.reported = values.get("run_state") == state
        self.changed = state != self.state
        if self.changed:
            self.state, self.state_since = state, ts
        self.state_ms = ts - self.state_since
        self.power = self.num("power_w")
        self.pn = pn
        self.level = self.num("level")
        self.volt_low, self.volt_high = mains_span(values, self.card)
        code = values.get("fault_code")
        if isinstance(code, str):
            self.code = "" if code.strip().lower() in _NO_CODE else code.strip()
            self.code_ts = ts
        elif self.code and ts - self.code_ts > _CODE_HOLD_MS:
            self.code = ""

    @property
    def implausible(self) -> bool:
        """A value within the wire's range that no healthy machine shows; the types say which."""
        return False

    @property
    def has_code(self) -> bool:
        """The maker's own code stands."""
        return bool(self.code)

    @property
    def is_rejected(self) -> bool:
        """A value of this sample was outside its range."""
        return bool(self.rejected)

    def num(self, channel: str) -> float:
        """The channel's figure in this sample, nan where it is absent."""
        value = self.values.get(channel)
        return value if type(value) is float else float(value) if type(value) is int else nan

    def flag(self, channel: str) -> bool | None:
        """The channel's flag in this sample, None where it is absent."""
        value = self.values.get(channel)
        return value if type(value) is bool else None


_NO_CODE = frozenset(("", "0", "00", "e0", "none", "ok", "no", "normal"))
_CODE_HOLD_MS = 60_000
"""A code that came as an event, and never again, counts this long (EJ: R26's 30 s to clear follow)."""
