"""``/people``: who works here, with which roles, skills and region; who may log in, and their passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Form as FormField
from fastapi.responses import Response

from domain.catalogue.model import EquipmentType
from domain.catalogue.registry import EQUIPMENT
from domain.desk import registry as desk
from domain.errors import NotFoundError, RefusedError
from domain.store.queries import registry, search
from domain.tickets.states import Role
from portal.auth import hash_password, usable_password
from portal.deps import FormValues, Page, page_router, refused_form, require
from portal.errors import status_of
from portal.fields import RowId, several
from portal.language import LANGUAGES, Message, masked_phone
from portal.permissions import Permission
from portal.render import Form

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_PEOPLE)]
Editor = Annotated[Page, require(Permission.EDIT_PEOPLE)]
Roles = Annotated[list[str], several("roles")]
Skills = Annotated[list[str], several("skills")]

FIELDS = ("login", "name", "phone", "region", "locale")
ROLES = tuple(role.value for role in Role if role in desk.STAFF)


@dataclass(frozen=True, slots=True)
class PersonLine:
    """One person in the list."""

    id: int
    login: str
    name: str
    roles: tuple[str, ...]
    skills: tuple[str, ...]
    region: str
    active: bool
    may_log_in: bool
    open_tickets: int


@dataclass(frozen=True, slots=True)
class ListView:
    """The list of people."""

    rows: tuple[PersonLine, ...]
    q: str
    role: str
    state: str
    roles: tuple[str, ...]
    may_edit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonView:
    """One person's form; ``id`` is None for a new one. ``phone`` is masked, ``shown`` the whole number just asked for."""

    id: int | None
    form: Form
    password: Form
    name: str
    phone: str
    shown: str
    roles: tuple[str, ...]
    skills: tuple[str, ...]
    active: bool
    may_log_in: bool
    open_tickets: int
    every_role: tuple[str, ...]
    types: tuple[EquipmentType, ...]
    languages: Mapping[str, str]
    regions: tuple[str, ...]
    may_edit: bool


@router.get("/people")
def index(page: Viewer, q: str = "", role: str = "", state: str = "active") -> Response:
    """People by name."""
    wanted = search.plain(q).casefold()
    with page.read() as session:
        counts = registry.open_ticket_counts(session)
        people = registry.people(session, role=role)
    rows = tuple(
        PersonLine(
            id=person.id,
            login=person.login,
            name=person.name,
            roles=tuple(person.roles),
            skills=tuple(person.skills),
            region=person.region,
            active=person.active,
            may_log_in=bool(person.password_hash),
            open_tickets=counts.get(person.id, 0),
        )
        for person in people
        if state == "all" or person.active is (state != "inactive")
        if not wanted or any(wanted in text.casefold() for text in (person.name, person.login, person.region))
    )
    view = ListView(rows, q.strip(), role, state, ROLES, page.user.may(Permission.EDIT_PEOPLE))
    return page.show("people/index.html", view)


@router.get("/people/new")
def new(page: Editor) -> Response:
    """The empty form."""
    return page.show("people/show.html", _view(page, None, Form.blank(**dict.fromkeys(FIELDS, "")), Form.blank()))


@router.post("/people")
def create(
    page: Editor,
    form: FormValues,
    roles: Roles,
    skills: Skills,
) -> Response:
    """Adds a person, with a password or (no log-in yet) without."""
    password = form.get("password", "")
    values = {name: form.get(name, "") for name in FIELDS}
    sent = values | {"roles": ",".join(roles), "skills": ",".join(skills)}
    try:
        hashed = (
            hash_password(usable_password(password)) if password else None
        )  # slow by design: before the transaction
        with page.command() as session:
            person = desk.save_person(session, page.actor, sent, page.now, password_hash=hashed)
    except RefusedError as error:
        refused = refused_form(error, sent | {"password": ""})
        view = _view(page, None, refused, refused, roles=roles, skills=skills)
        return page.show("people/show.html", view, status=status_of(error))
    return page.go(f"/people/{person.id}", Message("{name} saved", name=person.name))


@router.get("/people/{person_id}")
def show(page: Viewer, person_id: RowId) -> Response:
    """One person."""
    return page.show("people/show.html", _view(page, person_id))


@router.post("/people/{person_id}")
def update(
    page: Editor,
    person_id: RowId,
    form: FormValues,
    roles: Roles,
    skills: Skills,
) -> Response:
    """Changes a person; an empty telephone field keeps the number on record."""
    values = {name: form.get(name, "") for name in FIELDS}
    sent = values | {"roles": ",".join(roles), "skills": ",".join(skills)}
    if not values["phone"].strip():
        del sent["phone"]
    try:
        with page.command() as session:
            person = desk.save_person(session, page.actor, sent, page.now, person_id)
    except NotFoundError:
        raise
    except RefusedError as error:
        refused = refused_form(error, values | {"roles": "", "skills": ""})
        view = _view(page, person_id, refused, roles=roles, skills=skills)
        return page.show("people/show.html", view, status=status_of(error))
    return page.go(f"/people/{person_id}", Message("{name} saved", name=person.name))


@router.post("/people/{person_id}/password")
def set_password(page: Editor, person_id: RowId, password: Annotated[str, FormField()] = "") -> Response:
    """A new password; every log-in of the person ends."""
    with page.read() as session:
        registry.person(session, person_id)
    try:
        hashed = hash_password(usable_password(password))  # slow by design: before the transaction
        with page.command() as session:
            person = desk.save_person(session, page.actor, {}, page.now, person_id, password_hash=hashed)
    except RefusedError as error:
        view = _view(page, person_id, password=refused_form(error, {"password": ""}))
        return page.show("people/show.html", view, status=status_of(error))
    return page.go(f"/people/{person_id}", Message("New password set; {name} has been logged out", name=person.name))


@router.post("/people/{person_id}/active")
def set_active(page: Editor, person_id: RowId, active: Annotated[str, FormField()] = "") -> Response:
    """Lets somebody work, or stops them."""
    try:
        with page.command() as session:
            person = desk.set_active(session, page.actor, person_id, active == "1", page.now)
    except NotFoundError:
        raise
    except RefusedError as error:
        view = _view(page, person_id, refused_form(error, {}))
        return page.show("people/show.html", view, status=status_of(error))
    said = "{name} may work again" if person.active else "{name} has been stopped and logged out"
    return page.go(f"/people/{person_id}", Message(said, name=person.name))


@router.post("/people/{person_id}/phone")
def phone(page: Annotated[Page, require(Permission.UNMASK_PHONE)], person_id: RowId) -> Response:
    """The page again, with the whole number; that somebody looked is written down."""
    if not page.user.may(Permission.SEE_PEOPLE):
        raise NotFoundError("There is no such page")
    with page.command() as session:
        number = desk.unmask_phone(session, page.actor, "person", person_id, page.now)
    return page.show("people/show.html", _view(page, person_id, shown=number))


def _view(
    page: Page,
    person_id: int | None,
    form: Form | None = None,
    password: Form | None = None,
    *,
    roles: list[str] | None = None,
    skills: list[str] | None = None,
    shown: str = "",
) -> PersonView:
    with page.read() as session:
        person = registry.person(session, person_id) if person_id is not None else None
        held = registry.open_ticket_counts(session).get(person_id, 0) if person_id is not None else 0
        regions = tuple(search.regions(session))
    on_record = {
        "login": person.login if person else "",
        "name": person.name if person else "",
        "phone": "",
        "region": person.region if person else "",
        "locale": person.locale if person else "",
    }
    return PersonView(
        id=person_id,
        form=Form(on_record | dict(form.values if form else {}), form.errors if form else {}),
        password=password or Form.blank(),
        name=person.name if person else "",
        phone=masked_phone(person.phone) if person else "",
        shown=shown,
        roles=tuple(person.roles if person and roles is None else roles or ()),
        skills=tuple(person.skills if person and skills is None else skills or ()),
        active=person.active if person else True,
        may_log_in=bool(person and person.password_hash),
        open_tickets=held,
        every_role=ROLES,
        types=tuple(EQUIPMENT.values()),
        languages=LANGUAGES,
        regions=regions,
        may_edit=page.user.may(Permission.EDIT_PEOPLE),
    )
