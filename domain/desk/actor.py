"""Who gives a command."""

from __future__ import annotations

from dataclasses import dataclass

from domain.store.tables import Person
from domain.tickets.states import Role


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody with roles; ``person_id`` is None for brewair itself and for customers."""

    name: str
    roles: frozenset[Role]
    person_id: int | None = None


SYSTEM = Actor("brewair", frozenset((Role.SYSTEM,)))
SHELL = Actor("command line", frozenset((Role.ADMIN,)))
"""Whoever may run ``brewair`` on the server."""


def actor_of(person: Person) -> Actor:
    """The actor that a logged-in person is."""
    return Actor(person.name, frozenset(Role(role) for role in person.roles), person.id)
