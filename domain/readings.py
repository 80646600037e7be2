"""A reading: what one machine said about one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = float | str | bool
"""A channel's value; the catalogue says which of the three a channel has."""


class Quality(StrEnum):
    """How far a value may be believed; absent from ``Reading.quality`` means ``OK``."""

    OK = "ok"
    STALE = "stale"
    OUT_OF_RANGE = "out_of_range"
    STUCK = "stuck"
    SIMULATED = "simulated"
    BACKFILLED = "backfilled"


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample of one machine.

    ``ts`` is the device's UTC time in whole ms. ``values`` holds only channels of the catalogue, all with usable values;
    a value that was out of range is absent from ``values`` and stands in ``rejected`` with the number that came.
    ``simulated`` and ``backfill`` hold for the whole sample. (``boot``, ``seq``) is its identity for redelivery.
    ``device_ts`` is set only where the device's clock could not be believed: it is what that clock said, and ``ts`` is then
    the time of receipt.
    """

    serial: str
    type: str
    ts: int
    values: Mapping[str, Value]
    boot: str | None = None
    seq: int | None = None
    backfill: bool = False
    simulated: bool = False
    rejected: Mapping[str, float] = field(default_factory=dict)
    recv_ms: int | None = None
    device_ts: int | None = None

    def number(self, channel: str) -> float | None:
        """The channel's value as a float, or None where it is absent or not a number."""
        value = self.values.get(channel)
        return value if type(value) is float else (float(value) if isinstance(value, (int, float)) else None)

    def flag(self, channel: str) -> bool | None:
        """The channel's value as a bool, or None where it is absent."""
        value = self.values.get(channel)
        return value if isinstance(value, bool) else None

    def text(self, channel: str) -> str | None:
        """The channel's value as a string, or None where it is absent."""
        value = self.values.get(channel)
        return value if isinstance(value, str) else None
