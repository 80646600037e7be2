"""Who speaks without being registered. Pure."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_NAME = 200
"""A foreign name that is longer cannot be bound to a machine."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A machine that nobody knows: by convention ("" is native) and its name there (``type/serial``, or the foreign topic).

    ``model`` and ``fw`` are what it says of itself, where this message says it.
    """

    convention: str
    name: str
    serial: str = ""
    type: str = ""
    model: str = ""
    fw: str = ""

    @property
    def nameable(self) -> bool:
        """Whether somebody could register it under this name."""
        return 0 < len(self.name) <= LONGEST_NAME and self.name.isprintable()


def native(equipment_type: str, serial: str, model: str = "", fw: str = "") -> Stranger:
    """One that speaks brewair's own convention."""
    return Stranger("", f"{equipment_type}/{serial}", serial, equipment_type, model, fw)


def speaks_for(name: str, topic: str) -> bool:
    """Whether a machine bound to ``topic`` is the one heard as ``name``, or a part of it (a component, a node's device)."""
    return topic == name or topic.startswith(f"{name}/")
