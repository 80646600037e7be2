"""Who may do what: one table, role → permissions.

Roles are those of the service process. A person may have several; the rights add up. Every page asks for a permission, never
for a role. ``SEE_ALL_TICKETS`` widens the view from one's own tickets to everybody's; without it another's ticket is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from domain.tickets.states import Role


class Permission(StrEnum):
    """One right; a page or a form asks for exactly one."""

    LOGGED_IN = "logged_in"
    SEE_TICKETS = "see_tickets"
    SEE_ALL_TICKETS = "see_all_tickets"
    TAKE_CALLS = "take_calls"
    DISPATCH = "dispatch"
    VISIT = "visit"
    HANDLE_PARTS = "handle_parts"
    FOLLOW_UP = "follow_up"
    WAIVE = "waive"
    SEE_EQUIPMENT = "see_equipment"
    EDIT_EQUIPMENT = "edit_equipment"
    SEE_CUSTOMERS = "see_customers"
    SEE_OWN_CUSTOMERS = "see_own_customers"
    EDIT_CUSTOMERS = "edit_customers"
    UNMASK_PHONE = "unmask_phone"
    SEE_PEOPLE = "see_people"
    EDIT_PEOPLE = "edit_people"
    SEE_NOTICES = "see_notices"
    SEE_QUARANTINE = "see_quarantine"
    REPLAY_QUARANTINE = "replay_quarantine"
    SEE_GALLERY = "see_gallery"


P = Permission
_OFFICE = frozenset({P.LOGGED_IN, P.SEE_TICKETS, P.SEE_ALL_TICKETS, P.SEE_EQUIPMENT, P.SEE_CUSTOMERS, P.SEE_NOTICES})

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.OPERATOR: _OFFICE | {P.TAKE_CALLS, P.EDIT_EQUIPMENT, P.EDIT_CUSTOMERS, P.UNMASK_PHONE},
    Role.DISPATCHER: _OFFICE | {P.DISPATCH, P.TAKE_CALLS, P.EDIT_EQUIPMENT, P.SEE_PEOPLE, P.UNMASK_PHONE},
    Role.TECHNICIAN: frozenset({P.LOGGED_IN, P.SEE_TICKETS, P.VISIT, P.UNMASK_PHONE}),
    Role.PARTS_CLERK: _OFFICE | {P.HANDLE_PARTS},
    Role.FOLLOW_UP: _OFFICE | {P.FOLLOW_UP, P.UNMASK_PHONE},
    Role.MANAGER: _OFFICE
    | {
        P.TAKE_CALLS,
        P.DISPATCH,
        P.HANDLE_PARTS,
        P.FOLLOW_UP,
        P.WAIVE,
        P.EDIT_EQUIPMENT,
        P.EDIT_CUSTOMERS,
        P.SEE_PEOPLE,
        P.UNMASK_PHONE,
        P.SEE_QUARANTINE,
    },
    # A dealer reads on one page what belongs to its own customers; every other page of the office stays shut.
    Role.DEALER: frozenset({P.LOGGED_IN, P.SEE_TICKETS, P.SEE_OWN_CUSTOMERS}),
    Role.QA: frozenset(
        {P.LOGGED_IN, P.SEE_TICKETS, P.SEE_ALL_TICKETS, P.SEE_EQUIPMENT, P.SEE_QUARANTINE, P.SEE_GALLERY}
    ),
    # Users, devices, settings; no free reading of customer data.
    Role.ADMIN: frozenset(
        {
            P.LOGGED_IN,
            P.SEE_EQUIPMENT,
            P.EDIT_EQUIPMENT,
            P.SEE_PEOPLE,
            P.EDIT_PEOPLE,
            P.SEE_QUARANTINE,
            P.REPLAY_QUARANTINE,
            P.SEE_GALLERY,
        }
    ),
}


def permissions_of(roles: Iterable[str]) -> frozenset[Permission]:
    """All rights of somebody with these role keys; an unknown key gives none."""
    known = {role.value: granted for role, granted in PERMISSIONS.items()}
    return frozenset().union(*(known.get(role, frozenset()) for role in roles))
