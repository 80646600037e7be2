"""Compares what a scenario expects with the tickets and verdicts that came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from device_sim.scenario import ExpectedTicket, ExpectedVerdict, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTicket:
    """A ticket as found. ``rule`` of its first finding, empty where a person opened it; ``opened_at`` UTC ms, device time."""

    serial: str
    family: str
    rule: str
    opened_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedVerdict:
    """A recorded verdict as found: ``passed``, ``failed`` or ``inconclusive``; ``decided_at`` UTC ms, device time."""

    serial: str
    outcome: str
    decided_at: int


class Observed(Protocol):
    """Read-only view of what the system made of the scenario; other machines than the scenario's are left out."""

    def tickets(self) -> list[ObservedTicket]:
        """All repair tickets."""
        ...

    def verdicts(self) -> list[ObservedVerdict]:
        """All verdicts."""
        ...


E = TypeVar("E", ExpectedTicket, ExpectedVerdict)
O = TypeVar("O", ObservedTicket, ObservedVerdict)  # noqa: E741 — Expected and Observed


def compare(scenario: Scenario, observed: Observed) -> list[str]:
    """The differences, one readable line each; an empty list = as expected.

    ``-`` is expected and missing, ``+`` is there and not expected (only with ``no_others``).
    """

    def seconds(ms: int) -> float:
        return (ms - scenario.start_ms) / 1000.0

    def ticket_fits(want: ExpectedTicket, got: ObservedTicket) -> bool:
        same = want.machine == got.serial and want.family == got.family and want.rule in ("", got.rule)
        return same and want.from_s <= seconds(got.opened_at) <= want.to_s

    def verdict_fits(want: ExpectedVerdict, got: ObservedVerdict) -> bool:
        same = want.machine == got.serial and want.outcome == got.outcome
        return same and want.from_s <= seconds(got.decided_at) <= want.to_s

    expect = scenario.expect
    found_tickets = sorted(observed.tickets(), key=lambda t: t.opened_at)
    found_verdicts = sorted(observed.verdicts(), key=lambda v: v.decided_at)
    missing_t, extra_t = _unmatched(expect.tickets, found_tickets, ticket_fits)
    missing_v, extra_v = _unmatched(expect.verdicts, found_verdicts, verdict_fits)
    lines = [f"- ticket  {w.machine} {w.family} {w.rule or '(any rule)'} {_window(w)}" for w in missing_t]
    lines += [f"- verdict {w.machine} {w.outcome} {_window(w)}" for w in missing_v]
    if expect.no_others or missing_t:
        lines += [
            f"+ ticket  {g.serial} {g.family} {g.rule or '(by hand)'} at {_clock(seconds(g.opened_at))}"
            for g in extra_t
        ]
    if expect.no_others or missing_v:
        lines += [f"+ verdict {g.serial} {g.outcome} at {_clock(seconds(g.decided_at))}" for g in extra_v]
    return lines


def _unmatched(want: Sequence[E], got: Sequence[O], fits: Callable[[E, O], bool]) -> tuple[list[E], list[O]]:
    """What is left on both sides of a largest pairing (Kuhn), so that overlapping windows cannot mislead."""
    partner: dict[int, int] = {}

    def pair(w: int, seen: set[int]) -> bool:
        for g, candidate in enumerate(got):
            if g not in seen and fits(want[w], candidate):
                seen.add(g)
                if g not in partner or pair(partner[g], seen):
                    partner[g] = w
                    return True
        return False

    missing = [want[w] for w in range(len(want)) if not pair(w, set())]
    return missing, [candidate for g, candidate in enumerate(got) if g not in partner]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{'-' if whole < 0 else ''}{abs(whole) // 3600}:{abs(whole) // 60 % 60:02d}:{abs(whole) % 60:02d}"


def _window(want: ExpectedTicket | ExpectedVerdict) -> str:
    return f"between {_clock(want.from_s)} and {_clock(want.to_s)}"
