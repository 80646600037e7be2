"""``/equipment``: the machines, one machine, and its form."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi.responses import JSONResponse, Response

from domain.desk import registry as desk
from domain.errors import NotFoundError, RefusedError
from domain.store import strangers
from portal import equipment_view
from portal.charts import chart_of, usable_minutes
from portal.deps import FormValues, Page, page_router, refused_form, require
from portal.errors import status_of
from portal.fields import PageNumber
from portal.language import Message
from portal.permissions import Permission
from portal.render import Form

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_EQUIPMENT)]
Editor = Annotated[Page, require(Permission.EDIT_EQUIPMENT)]


@router.get("/equipment")
def index(
    page: Viewer, q: str = "", type: str = "", condition: str = "", region: str = "", p: PageNumber = 1
) -> Response:
    """Machines, narrowed by the address's parameters."""
    q = q.strip()
    kept = urlencode({"q": q, "type": type, "condition": condition, "region": region})
    with page.read() as session:
        view = equipment_view.list_view(
            session, page.user, q=q, equipment_type=type, condition=condition, region=region, page=p,
            next_pages=f"/equipment?{kept}&p=",
        )  # fmt: skip
    return page.show("equipment/index.html", view)


@router.get("/equipment/new")
def new(
    page: Editor,
    site: str = "",
    serial: str = "",
    type: str = "",
    model: str = "",
    convention: str = "",
    topic: str = "",
    claim: str = "",
) -> Response:
    """The empty form; ``site`` is chosen already, and what an unclaimed machine said of itself is filled in. Of a known
    ``type`` only its models can be chosen."""
    given = {
        "site_id": site, "serial": serial, "binding_topic": topic,
        "model": model if equipment_view.type_of_model(model) == type else "",
        "binding_convention": convention if convention in equipment_view.CONVENTIONS else "",
    }  # fmt: skip
    with page.read() as session:
        form = Form.blank(**dict.fromkeys(equipment_view.FIELDS, "") | given)
        view = equipment_view.edit_view(session, page.user, form, equipment_type=type, claim=bool(claim))
    return page.show("equipment/edit.html", view)


@router.post("/equipment")
def create(page: Editor, form: FormValues) -> Response:
    """Registers a machine."""
    return _save(page, form, None)


@router.get("/equipment/{serial}")
def show(page: Viewer, serial: str, minutes: int = 60) -> Response:
    """One machine; ``minutes`` is the range of the chart's table."""
    today = page.now.astimezone(page.portal.settings.timezone).date()
    with page.read() as session:
        view = equipment_view.show_view(
            session, page.telemetry, page.user, serial, page.now, today, usable_minutes(minutes),
            chart=not page.wants_fragment,
        )  # fmt: skip
    return page.show("equipment/show.html", view)


@router.get("/equipment/{serial}/telemetry.json")
def telemetry(page: Viewer, serial: str, channels: str = "", minutes: int = 60) -> JSONResponse:
    """What ``chart.js`` draws (see its header)."""
    with page.read() as session:
        machine = equipment_view.known(session, serial)
        chart = chart_of(session, page.telemetry, machine, page.now, usable_minutes(minutes), channels)
    return JSONResponse(chart.payload(page.say, page.portal.settings.timezone.key))


@router.get("/equipment/{serial}/edit")
def edit(page: Editor, serial: str) -> Response:
    """The form of a machine."""
    with page.read() as session:
        form = Form(equipment_view.values_of(session, serial), {})
        view = equipment_view.edit_view(session, page.user, form, serial)
    return page.show("equipment/edit.html", view)


@router.post("/equipment/{serial}")
def update(page: Editor, serial: str, form: FormValues) -> Response:
    """Changes a machine."""
    return _save(page, form, serial)


def _save(page: Page, form: FormValues, serial: str | None) -> Response:
    values = {name: form.get(name, "") for name in equipment_view.FIELDS}
    sent = dict(values)
    if serial is None:
        sent["type"] = equipment_view.type_of_model(values["model"].strip())
    else:
        del sent["serial"]
    try:
        with page.command() as session:
            if serial is not None:
                equipment_view.known(session, serial)
            machine = desk.save_machine(session, page.actor, sent, page.now, serial)
            spoke_before = machine.serial in strangers.at_the_door(session)
    except RefusedError as error:
        if isinstance(error, NotFoundError) and serial is not None:
            raise
        refused = refused_form(error, values)
        with page.read() as session:
            view = equipment_view.edit_view(session, page.user, refused, serial or "", claim=bool(form.get("claim")))
        return page.show("equipment/edit.html", view, status=status_of(error))
    saved = Message("Machine {serial} saved", serial=machine.serial)
    taken_in = Message("{serial} saved; what is held of it is being taken in", serial=machine.serial)
    return page.go(f"/equipment/{machine.serial}", taken_in if spoke_before else saved)
