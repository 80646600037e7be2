"""A unit's own normal figures, learned from accepted running (equipment.md §2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Baseline:
    """Medians of healthy running; whatever is absent is not known.

    ``pn_w``: voltage-normalised power in W by state (``heating``, ``grinding``, ``running`` …).
    ``filter_dp_pa``: mean filter pressure drop of the last 60 days in Pa.
    """

    pn_w: Mapping[str, float] = field(default_factory=dict)
    filter_dp_pa: float | None = None

    def reference(self) -> dict[str, float]:
        """As the rules look it up: by state, and ``filter_dp_pa``."""
        return {**self.pn_w, **({"filter_dp_pa": self.filter_dp_pa} if self.filter_dp_pa else {})}
