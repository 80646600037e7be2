"""The navigation: one table; what a person may not see, or what has no page, is left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from portal.language import _
from portal.permissions import Permission

P = Permission


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """One entry; the first four that somebody may see are the bottom bar of a phone."""

    path: str
    label: str
    icon: str
    permission: Permission
    group: str = ""


NAVIGATION: tuple[NavigationItem, ...] = (
    NavigationItem("/today", _("My day"), "calendar", P.VISIT, _("Service")),
    NavigationItem("/board", _("Board"), "board", P.SEE_ALL_TICKETS, _("Service")),
    NavigationItem("/calls/new", _("New call"), "phone", P.TAKE_CALLS, _("Service")),
    NavigationItem("/dispatch", _("Dispatch"), "route", P.DISPATCH, _("Service")),
    NavigationItem("/notices", _("Escalations"), "bell", P.SEE_NOTICES, _("Service")),
    NavigationItem("/equipment", _("Equipment"), "machine", P.SEE_EQUIPMENT, _("Records")),
    NavigationItem("/customers", _("Customers and sites"), "building", P.SEE_CUSTOMERS, _("Records")),
    NavigationItem("/dealer", _("My customers"), "building", P.SEE_OWN_CUSTOMERS, _("Records")),
    NavigationItem("/people", _("People"), "people", P.SEE_PEOPLE, _("Records")),
    NavigationItem("/quarantine", _("Quarantine"), "quarantine", P.SEE_QUARANTINE, _("Operations")),
    NavigationItem("/unclaimed", _("Unclaimed"), "inbox", P.SEE_QUARANTINE, _("Operations")),
    NavigationItem("/gallery", _("Component gallery"), "palette", P.SEE_GALLERY, _("Operations")),
)


def navigation_for(granted: Collection[Permission], paths: Collection[str]) -> tuple[NavigationItem, ...]:
    """Entries whose right is granted and whose page exists."""
    return tuple(item for item in NAVIGATION if item.permission in granted and item.path in paths)


def home_of(items: Sequence[NavigationItem]) -> str:
    """Where somebody lands after log-in: the first entry that is theirs."""
    return items[0].path if items else "/account"


def here(items: Sequence[NavigationItem], path: str) -> str:
    """Path of the entry that the page at ``path`` belongs to, or ''."""
    inside = [item.path for item in items if path == item.path or path.startswith(item.path + "/")]
    return max(inside, key=len, default="")
