"""``/calls``: a customer on the phone. One page takes the call; the next one watches the machine while they check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi.responses import Response

from domain.desk.calls import Taken, take_call, weigh
from domain.desk.intake import Call
from domain.desk.perform import perform
from domain.errors import InvalidError, NotFoundError, RefusedError
from domain.store.queries import search
from domain.tickets.states import ACTIONS, Action, Kind
from portal import call_view
from portal.call_view import CALL_ACTIONS, NewCallView
from portal.deps import FormValues, Page, page_router, refused_form, require
from portal.errors import status_of
from portal.fields import RowId
from portal.language import Message, _
from portal.permissions import Permission
from portal.render import Form, Notice

router = page_router()
Operator = Annotated[Page, require(Permission.TAKE_CALLS)]

FIELDS = (
    "q",
    "serial",
    "join",
    "kind",
    "words",
    "symptom",
    "began",
    "usage",
    "caller_name",
    "caller_phone",
    "next_step",
)
FIND = "find"
"""The button that only looks for the machine: without JavaScript it brings the page back with everything that was typed."""
SEPARATE = "separate"
"""What ``join`` says when the caller means another matter than the open tickets."""


@router.get("/calls/new")
def new(page: Operator, q: str = "", serial: str = "", symptom: str = "", join: str = "") -> Response:
    """The empty form; with ``q`` what was found, with ``serial`` (or when only one fits) that machine."""
    blank = Form.blank(q=q, serial=serial, symptom=symptom, join=join, kind=Kind.REPAIR)
    return page.show("calls/new.html", _view(page, blank))


@router.post("/calls/new")
def take(page: Operator, form: FormValues) -> Response:
    """Takes the call, or only looks for the machine."""
    values = {name: form.get(name, "") for name in FIELDS}
    if form.get("do") == FIND:
        return page.show("calls/new.html", _view(page, Form(values, {})))
    serial = values["serial"].strip()
    try:
        taken = _taken(values)
        weighed = None
        if serial and taken.symptom:
            with page.read() as session:
                weighed = weigh(session, page.telemetry, serial, taken.symptom, page.now)
        with page.command() as session:
            ticket, is_new = take_call(session, page.actor, taken, weighed, page.now)
    except RefusedError as error:
        refused = refused_form(error, values)
        notice = (
            Notice(Message("Not saved yet: please look at the marked field"), "bad") if page.wants_fragment else None
        )
        return page.show("calls/new.html", _view(page, refused, problem=True), status=status_of(error), notice=notice)
    said = _("Ticket {id} opened") if is_new else _("The call was added to ticket {id}")
    return page.go(f"/calls/{ticket.id}", Message(said, id=ticket.id))


@router.get("/calls/{ticket_id}")
def show(page: Operator, ticket_id: RowId) -> Response:
    """What happens next; live while the customer checks the machine."""
    return _show(page, ticket_id)


@router.post("/calls/{ticket_id}/{action}")
def act(page: Operator, ticket_id: RowId, action: str, form: FormValues) -> Response:
    """Guide, hand over to dispatch, or solved by phone."""
    chosen = next((known for known in CALL_ACTIONS if known == action), None)
    if chosen is None:
        raise NotFoundError("There is no such page")
    version = form.get("version", "")
    try:
        with page.command() as session:
            page.ticket(session, ticket_id)
            said = {"reason": form.get("reason", "")[:500], "note": form.get("note", "")[:500]}
            perform(
                session, page.actor, ticket_id, chosen, said, page.now,
                version=int(version) if version.isascii() and version.isdigit() else None,
            )  # fmt: skip
    except NotFoundError:
        raise
    except RefusedError as error:
        return _show(page, ticket_id, status=status_of(error), notice=Notice(Message.of(error), "bad"))
    return page.go(f"/calls/{ticket_id}", Message(DONE[chosen]))


DONE: Mapping[Action, str] = {
    Action.GUIDE: _("The machine is being watched while you guide the customer"),
    Action.SOLVE_BY_PHONE: _("Solved by phone"),
    Action.VISIT_NEEDED: _("Handed over to dispatch"),
}


def _show(page: Page, ticket_id: int, *, status: int = 200, notice: Notice | None = None) -> Response:
    with page.read() as session:
        ticket = page.ticket(session, ticket_id)
        view = call_view.call_view(session, ticket, page.actor, page.now, f"/calls/{ticket_id}")
    return page.show("calls/show.html", view, status=status, notice=notice)


def _taken(values: Mapping[str, str]) -> Taken:
    kind = next((known for known in Kind if known == (values["kind"] or Kind.REPAIR)), None)
    if kind is None:
        raise InvalidError("Please choose one", field="kind")
    join = values["join"].strip()
    if join not in ("", SEPARATE) and not (join.isascii() and join.isdigit() and len(join) < 10):
        raise InvalidError("Please choose one", field="join")
    return Taken(
        call=Call(
            kind=kind,
            words=values["words"],
            caller_name=values["caller_name"],
            caller_phone=values["caller_phone"],
            serial=values["serial"].strip(),
            separate=join == SEPARATE,
        ),
        symptom=values["symptom"],
        began=values["began"],
        usage=values["usage"],
        join=int(join) if join not in ("", SEPARATE) else None,
        next_step=values["next_step"],
    )


def _view(page: Page, form: Form, *, problem: bool = False) -> NewCallView:
    q, wanted = form.values["q"].strip(), form.values["serial"].strip()
    today = page.now.astimezone(page.portal.settings.timezone).date()
    errors = dict(form.errors)
    with page.read() as session:
        rows = search.for_call(session, q or wanted)
        serial = _chosen([row.machine.serial for row in rows], q, wanted)
        chosen = call_view.chosen_of(session, serial, form.values.get("join", ""), page.now, today) if serial else None
        weighed = weigh(session, page.telemetry, serial, form.values["symptom"], page.now) if serial else None
        claim = call_view.claim_view(session, serial, weighed) if weighed else None
    if wanted and not serial and not errors:
        errors["serial"] = Message("There is no machine {serial}", serial=search.plain(wanted))
    values = dict(form.values) | {"serial": serial}
    unseen = {"next_step", *(() if chosen and chosen.tickets else ("join",))}
    errors = {"" if field in unseen else field: said for field, said in errors.items()}
    if not values.get("caller_phone") and search.phone_digits(q) and len(search.phone_digits(q)) >= 7:
        values["caller_phone"] = q
    roles = page.actor.roles
    return NewCallView(
        form=Form(values, errors),
        q=q,
        found=call_view.choices(rows, serial),
        chosen=chosen,
        symptoms=call_view.symptoms_of(chosen.choice.type) if chosen else (),
        claim=claim,
        may_guide=bool(roles & ACTIONS[Action.GUIDE].roles),
        may_send=bool(roles & ACTIONS[Action.VISIT_NEEDED].roles),
        may_add_machine=page.user.may(Permission.EDIT_EQUIPMENT),
        problem=problem,
    )


def _chosen(found: list[str], q: str, wanted: str) -> str:
    """The machine that the call is about: the one picked, or the only one found, or the one whose serial was typed."""
    if wanted in found:
        return wanted
    if len(found) == 1:
        return found[0]
    return next((serial for serial in found if serial.casefold() == q.casefold()), "")
