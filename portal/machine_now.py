"""What a machine says right now: state, last seen, and the newest figures of its charts' channels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.store.queries import registry
from domain.store.tables import Equipment
from portal.charts import CHANNEL_LABELS, PANELS, RUN_STATE_LABELS, unit_of

FRESH = timedelta(minutes=3)
"""Figures older than this are shown as old."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One newest figure; the label is a message id."""

    label: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class MachineNow:
    """The newest status. ``online`` is None where the machine has never been heard of."""

    online: bool | None
    fresh: bool
    run_state: str
    seen_at: datetime | None
    gauges: tuple[Gauge, ...]


def machine_now(session: Session, machine: Equipment, now: datetime) -> MachineNow:
    """What the gateway last wrote about a machine."""
    status = registry.status(session, machine.serial)
    if status is None:
        return MachineNow(None, False, "", None, ())
    figures = ((key, status.latest.get(key)) for panel in PANELS[machine.type] for key in panel.channels)
    return MachineNow(
        online=status.online,
        fresh=status.last_seen_at is not None and now - status.last_seen_at <= FRESH,
        run_state=RUN_STATE_LABELS.get(status.run_state, status.run_state),
        seen_at=status.last_seen_at,
        gauges=tuple(
            Gauge(CHANNEL_LABELS[key], float(value), unit_of(machine.type, key))
            for key, value in figures
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ),
    )
