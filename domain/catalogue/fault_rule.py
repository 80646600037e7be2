"""The shape of a fault rule (equipment.md §6): a row of data whose conditions are one-line functions of ``Facts``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from domain.catalogue.facts import Facts
from domain.findings import Kind, Severity

F = TypeVar("F", bound=Facts, contravariant=True)


@dataclass(frozen=True, kw_only=True)
class FaultRule(Generic[F]):
    """One row: ``raises`` true for ``on_s`` opens an episode, ``clears`` true for ``off_s`` ends it.

    A sample counts only where every channel of ``needs`` is in it and ``when`` holds; else it says nothing, either way.
    ``guarded`` rows sleep for 60 s after a change of state and 120 s after a start. Several rows may share a ``key`` (grades,
    or causes); the worse ones stand first and keep the lesser ones silent. ``suppressed_by`` names root causes.
    ``evidence`` names figures of ``Facts``; ``weigh`` gives severity, kind and cause where they depend on the moment.
    """

    key: str
    family: str
    severity: Severity
    kind: Kind
    raises: Callable[[F], bool]
    clears: Callable[[F], bool]
    on_s: float
    off_s: float
    needs: tuple[str, ...] = ()
    when: Callable[[F], bool] | None = None
    guarded: bool = True
    min_samples: int = 3
    cause: str = ""
    suppressed_by: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    weigh: Callable[[F], tuple[Severity, Kind, str]] | None = None

    @property
    def row(self) -> str:
        """Names this row among those of its key."""
        return f"{self.key}/P{self.severity:d}/{self.cause}"
