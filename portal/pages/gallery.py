"""``/gallery``: every component with sample data, for those who build pages and those who look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sin
from typing import Annotated

from fastapi.responses import JSONResponse, Response

from domain.catalogue.soymilk.cards import CARDS
from domain.clock import to_ms
from domain.telemetry.port import Row
from domain.tickets.deadlines import Clock, DeadlineView
from domain.tickets.states import State
from domain.verdicts import CriterionResult, CriterionState
from portal.charts import Band, ChartRange, limits_of
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
    start = to_ms(page.now) - 1_200_000
    rows = tuple(
        Row(
            start + 10_000 * step,
            {
                "power_w": 5900 + 60 * sin(step) if 12 < step < 80 else 120.0 + 8 * sin(step),
                "temp_c": min(99.0, 22 + max(0, step - 12) * 1.35),
            },
        )
        for step in range(120)
    )
    sample = ChartRange(
        "soymilk", start, to_ms(page.now), 0, rows, limits_of(CARDS["SMM-25"]),
        (Band(rows[13].ts, rows[79].ts, Message("Test run {attempt}", attempt=1), "run"),),
    )  # fmt: skip
    return JSONResponse(sample.payload(page.say, str(page.portal.settings.timezone)))
