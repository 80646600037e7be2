"""What a soy-milk machine's board can run: programs as rows of phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a program. ``seconds`` 0 = it ends by its own condition; ``share`` is of a full batch."""

    state: str
    seconds: float = 0.0
    share: float = 0.0


PART = 0.30
"""A test batch: 30 % of a full one (equipment.md §7.3 allows it)."""
KEEP = Phase("keep_warm", 300)
BOILED = (Phase("heating"), Phase("boil_hold"), KEEP)
PROGRAMS: Mapping[str, tuple[Phase, ...]] = {
    "cycle": (Phase("filling", share=PART), Phase("grinding", 180), *BOILED),
    "grinds": (
        Phase("filling", share=PART),
        Phase("grinding", 150),
        Phase("soaking", 120),
        Phase("grinding", 150),
        Phase("soaking", 120),
        Phase("grinding", 150),
        *BOILED,
    ),
    "fills": (
        Phase("filling", share=PART),
        Phase("grinding", 120),
        Phase("heating"),
        Phase("boil_hold"),
        Phase("keep_warm", 60),
        Phase("dispensing", share=1.0),
        Phase("filling", share=PART),
        Phase("soaking", 60),
        Phase("cleaning", 60),
    ),
    "full": (
        Phase("filling", share=1.0),
        Phase("grinding", 180),
        Phase("heating"),
        Phase("boil_hold"),
        Phase("keep_warm", 1500),
    ),
}
SERVE = (Phase("keep_warm", 900), Phase("dispensing", share=0.25))


def batch_program(share: float) -> tuple[Phase, ...]:
    """An owner's batch of ``share`` of a full one: make it, serve it in four parts, clean."""
    return (
        Phase("filling", share=share),
        Phase("grinding", 180),
        Phase("heating"),
        Phase("boil_hold"),
        Phase("filtering", 60),
        *SERVE * 3,
        Phase("keep_warm", 900),
        Phase("dispensing", share=1.0),
        Phase("cleaning", 240),
    )
