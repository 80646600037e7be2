"""``/quarantine``: what machines sent and brewair could not use. Replaying and dropping are wishes that the gateway fulfils."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form as FormField
from fastapi.responses import Response

from domain.desk.door import journal
from domain.store import ingest
from domain.store.queries import search
from portal.deps import Page, page_router, require
from portal.fields import LARGEST_ID, PageNumber, several
from portal.language import Message, _
from portal.permissions import Permission

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_QUARANTINE)]
Handler = Annotated[Page, require(Permission.REPLAY_QUARANTINE)]
Chosen = Annotated[list[str], several("chosen")]

REASONS: Mapping[str, str] = {
    "unknown_topic": _("Topic of no convention"),
    "unknown_type": _("Unknown kind of machine"),
    "unknown_serial": _("Machine is not registered"),
    "type_mismatch": _("Registered as another kind of machine"),
    "oversize": _("Too large"),
    "unreadable": _("Not readable"),
    "too_deep": _("Nested too deeply"),
    "too_many": _("Too many samples at once"),
    "wrong_type": _("A value of the wrong type"),
    "missing_ts": _("Without a time"),
    "not_finite": _("Not a finite number"),
    "unknown_alias": _("Sparkplug alias without its birth"),
    "internal_error": _("Error inside brewair"),
    "unwritable": _("Refused by the telemetry store"),
    "damaged": _("Damaged on the gateway's disk"),
}
"""Reason key → text (a test compares them with the gateway's)."""
STATES: Mapping[str, str] = {
    ingest.HELD: _("Held"),
    ingest.REPLAY: _("To be replayed"),
    ingest.REPLAYED: _("Replayed"),
    ingest.DROPPED: _("Dropped"),
}
SHOWN_BYTES = 2000
"""Of a payload; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Held:
    """One payload. ``text`` shows every byte that is no printable character as an escape."""

    id: int
    reason: str
    reason_text: str
    explanation: str
    topic: str
    received_at: datetime
    handled_at: datetime | None
    text: str
    size: int
    cut: bool
    may_replay: bool


@dataclass(frozen=True, slots=True)
class QuarantineView:
    """The list."""

    rows: tuple[Held, ...]
    total: int
    page: int
    pages: int
    next_pages: str
    state: str
    reason: str
    q: str
    states: Mapping[str, str]
    reasons: tuple[tuple[str, str, int], ...]
    address: str
    may_handle: bool


@router.get("/quarantine")
def index(page: Viewer, state: str = ingest.HELD, reason: str = "", q: str = "", p: PageNumber = 1) -> Response:
    """What is held, or was, the latest first."""
    state = state if state in STATES else ingest.HELD
    kept = urlencode({"state": state, "reason": reason, "q": q.strip()})
    may_handle = page.user.may(Permission.REPLAY_QUARANTINE)
    with page.read() as session:
        counts = ingest.quarantine_counts(session)
        found = search.quarantine(session, state=state, reason=reason, text=q, page=p)
        rows = tuple(
            Held(
                id=row.id,
                reason=row.reason,
                reason_text=REASONS.get(row.reason, row.reason),
                explanation=legible(row.explanation.encode()),
                topic=legible(row.topic.encode()),
                received_at=row.received_at,
                handled_at=row.handled_at,
                text=legible(row.payload[:SHOWN_BYTES]),
                size=len(row.payload),
                cut=len(row.payload) > SHOWN_BYTES,
                may_replay=bool(row.topic) and row.state == ingest.HELD,
            )
            for row in found.rows
        )
    view = QuarantineView(
        rows=rows,
        total=found.total,
        page=found.page,
        pages=found.pages,
        next_pages=f"/quarantine?{kept}&p=",
        state=state,
        reason=reason,
        q=q.strip(),
        states=STATES,
        reasons=tuple(
            (key, text, counts.get(key, 0)) for key, text in REASONS.items() if counts.get(key) or key == reason
        ),
        address=f"/quarantine?{kept}",
        may_handle=may_handle,
    )
    return page.show("quarantine/index.html", view)


@router.post("/quarantine/replay")
def replay(page: Handler, chosen: Chosen, back: Annotated[str, FormField()] = "") -> Response:
    """Asks the gateway to read these again."""
    return _settle(page, chosen, ingest.REPLAY, _("To be replayed by the gateway: {count}"), back)


@router.post("/quarantine/drop")
def drop(page: Handler, chosen: Chosen, back: Annotated[str, FormField()] = "") -> Response:
    """Gives these up."""
    return _settle(page, chosen, ingest.DROPPED, _("Dropped: {count}"), back)


def _settle(page: Page, chosen: list[str], state: str, said: str, back: str) -> Response:
    ids = {int(text) for text in chosen if text.isascii() and text.isdigit() and len(text) < 11}
    ids = {number for number in ids if 0 < number <= LARGEST_ID}
    with page.command() as session:
        changed = ingest.settle(session, sorted(ids), state, page.now)
        if changed:
            detail = {"ids": changed, "count": len(changed)}
            journal(session, page.now, page.actor, f"quarantine_{state}", detail=detail)
    to = back if back.startswith("/quarantine?") and back.isprintable() else "/quarantine"
    if not changed:
        return page.go(to, Message("Nothing was chosen that can be handled"), "bad")
    return page.go(to, Message(said, count=len(changed)))


def legible(raw: bytes) -> str:
    """Bytes as text in which nothing can hide: UTF-8 where it is, escapes for all that is not printable."""
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
