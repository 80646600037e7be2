"""``/gallery``: every component with sample data, for those who build pages and those who look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sin
from typing import Annotated

from fastapi.responses import JSONResponse, Response

from domain.tickets.deadlines import Clock, DeadlineView
from domain.tickets.states import State
from domain.verdicts import CriterionResult, CriterionState
from portal.deps import Page, page_router, require
from portal.labels import LABELS, Label
from portal.language import Message
from portal.permissions import Permission
from portal.render import Form, Notice

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_GALLERY)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the sample timeline."""

    at: datetime
    title: str
    text: str
    who: str
    icon: str
    tone: str


@dataclass(frozen=True, slots=True)
class GalleryView:
    """Sample data for every component."""

    tables: Mapping[str, Mapping[str, Label]]
    deadlines: tuple[DeadlineView, ...]
    form: Form
    criteria: tuple[CriterionResult, ...]
    timeline: tuple[Entry, ...]
    notices: tuple[Notice, ...]
    state: str
    now: datetime


@router.get("/gallery")
def gallery(page: Viewer) -> Response:
    """The page."""
    now = page.now
    remaining = {Clock.RUNNING: 23, Clock.WARNING: 2.5, Clock.BREACHED: -1.2, Clock.PAUSED: 8, Clock.ENDED: 4}
    view = GalleryView(
        tables=LABELS,
        deadlines=tuple(
            DeadlineView(clock, now + timedelta(hours=left), timedelta(hours=left)) for clock, left in remaining.items()
        ),
        form=Form({"name": "老王豆浆店", "phone": "139"}, {"phone": Message("User name or password is wrong")}),
        criteria=(
            CriterionResult("heating_power", CriterionState.PASS, True, 5890.0, "W", 5400.0, 6300.0, 128),
            CriterionResult("boil_hold", CriterionState.FAIL, True, 214.0, "s", 300.0, None, 96),
            CriterionResult("phase_balance", CriterionState.NOT_ASSESSABLE, False, None, "%", None, 10.0, 0),
            CriterionResult("leak", CriterionState.PENDING, True, 0.02, "L/min", None, 0.1, 12),
        ),
        timeline=(
            Entry(
                now - timedelta(hours=3), page.say("Reported"), "R03 · 5.9 kW → 3.9 kW", "brewair", "activity", "warn"
            ),
            Entry(now - timedelta(hours=2), page.say("Dispatched"), "", "李敏", "send", "active"),
            Entry(now - timedelta(minutes=9), page.say("Test run passed"), "", "brewair", "check", "good"),
        ),
        notices=(
            Notice(Message("Saved"), "good"),
            Notice(Message("Somebody else changed this first; look again and repeat"), "bad"),
        ),
        state=State.READY.value,
        now=now,
    )
    return page.show("gallery.html", view)


@router.get("/gallery/chart.json")
def chart(page: Viewer) -> Response:
    """Sample series: heating power and temperature of one batch."""
    start = page.now.timestamp() - 1200
    times = [start + 10 * step for step in range(120)]
    power = [5900 + 60 * sin(step) if 12 < step < 80 else 120.0 + 8 * sin(step) for step in range(120)]
    temperature = [min(99.0, 22 + max(0, step - 12) * 1.35) for step in range(120)]
    return JSONResponse(
        {
            "t": times,
            "zone": str(page.portal.settings.timezone),
            "series": [
                {"label": page.say("Power"), "unit": "W", "values": power},
                {"label": page.say("Temperature"), "unit": "°C", "values": temperature},
            ],
            "limits": [{"label": page.say("Heating"), "unit": "W", "low": 5400, "high": 6300}],
            "spans": [{"from": times[13], "to": times[79], "label": page.say("Heating")}],
        }
    )
