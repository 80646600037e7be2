"""Who should go: a pure ranking of technicians with the reasons for it (service-process.md §3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

REGION_POINTS = 30
KNOWS_MACHINE_POINTS = 15
KNOWS_SITE_POINTS = 5
LOAD_POINTS = -12
"""EJ: two open tickets more weigh as much as another region, so that the day's work spreads evenly."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A technician as the ranking sees one: ``skills`` are equipment types, ``open_tickets`` the present workload."""

    person_id: int
    name: str
    skills: frozenset[str]
    region: str
    open_tickets: int
    visits_to_machine: int = 0
    visits_to_site: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as a gettext id with its values, and the points it gave."""

    message_id: str
    params: dict[str, object]
    points: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate with score and reasons, best reason first."""

    candidate: Candidate
    score: int
    reasons: tuple[Reason, ...]


def rank(candidates: Iterable[Candidate], *, equipment_type: str, region: str) -> list[Proposal]:
    """Those who have the skill, best first; ties go to the lighter load, then to the lower id. Others are left out."""
    proposals = []
    for candidate in candidates:
        if equipment_type not in candidate.skills:
            continue
        reasons = [Reason("Trained for this equipment type", {}, 0)]
        if region and candidate.region == region:
            reasons.append(Reason("Same region: {region}", {"region": region}, REGION_POINTS))
        elif region:
            reasons.append(Reason("Other region: {region}", {"region": candidate.region or "—"}, 0))
        if candidate.visits_to_machine:
            reasons.append(
                Reason(
                    "Repaired this machine before ({count}×)",
                    {"count": candidate.visits_to_machine},
                    KNOWS_MACHINE_POINTS,
                )
            )
        elif candidate.visits_to_site:
            reasons.append(
                Reason("Knows the site ({count} visits)", {"count": candidate.visits_to_site}, KNOWS_SITE_POINTS)
            )
        load = LOAD_POINTS * candidate.open_tickets
        reasons.append(
            Reason("{count} open tickets", {"count": candidate.open_tickets}, load)
            if load
            else Reason("Free now", {}, 0)
        )
        reasons.sort(key=lambda reason: -reason.points)
        proposals.append(Proposal(candidate, sum(reason.points for reason in reasons), tuple(reasons)))
    return sorted(proposals, key=lambda p: (-p.score, p.candidate.open_tickets, p.candidate.person_id))
