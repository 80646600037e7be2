"""Who and what there is: customers, sites, machines and people are created, edited and switched off here, each change journalled.

Forms are text; a form names only the fields it wants to set. Telephone numbers are masked wherever they are not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete
from sqlalchemy.orm import Session

from domain.catalogue.registry import EQUIPMENT
from domain.desk.actor import Actor
from domain.desk.door import journal
from domain.desk.form import Form, identifier
from domain.errors import ForbiddenError, InvalidError, NotFoundError
from domain.store import strangers
from domain.store.queries import registry as query
from domain.store.queries import tickets
from domain.store.tables import Customer, Equipment, LoginSession, Person, Site
from domain.tickets.states import Role
from domain.wire import SERIAL

LOGIN = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}\Z")
PHONE = re.compile(r"\+?\d{5,15}\Z")
CONVENTION = re.compile(r"[a-z0-9_]{1,32}\Z")
DAY = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?\Z")
LISTED = re.compile(r"[\s,;|、，；]+")
YES = frozenset(("1", "true", "yes", "y", "on", "是"))
NO = frozenset(("", "0", "false", "no", "n", "off", "否"))
STAFF = frozenset(Role) - {Role.SYSTEM, Role.CUSTOMER}
LOCALES = ("", "zh_CN", "en")


def mask_phone(phone: str) -> str:
    """A telephone number with its middle hidden: 13800138000 → 138****8000."""
    return f"{phone[:3]}****{phone[-4:]}" if len(phone) >= 10 else ("*" * max(0, len(phone) - 2) + phone[-2:])


# ---------------------------------------------------------------------------------------------------------------- fields

Parse = Callable[[str, str], Any]
"""(field, stripped text) → value; raises InvalidError."""


def _text(longest: int = 200, *, needed: bool = False) -> Parse:
    def parse(field: str, text: str) -> str:
        if needed and not text:
            raise InvalidError("Please fill in this field", field=field)
        if len(text) > longest:
            raise InvalidError("At most {count} characters", field=field, count=longest)
        if any(ord(character) < 32 and character not in "\n\t" for character in text):
            raise InvalidError("Control characters cannot be used here", field=field)
        return text

    return parse


def _pattern(pattern: re.Pattern[str], message_id: str) -> Parse:
    def parse(field: str, text: str) -> str:
        if not pattern.match(text):
            raise InvalidError(message_id, field=field, text=text)
        return text

    return parse


def _phone(field: str, text: str) -> str:
    digits = re.sub(r"[\s()（）-]", "", text)
    if digits and not PHONE.match(digits):
        raise InvalidError("'{text}' is not a telephone number", field=field, text=text)
    return digits


def _reference(field: str, text: str) -> int | None:
    return identifier({field: text}, field) if text else None


def _day(field: str, text: str) -> date | None:
    if not text:
        return None
    match = DAY.match(text)
    try:
        return date(*(int(part) for part in match.groups())) if match else date.fromisoformat(text)
    except ValueError:
        raise InvalidError("'{text}' is not a date", field=field, text=text) from None


def _yes(field: str, text: str) -> bool:
    if text.lower() not in YES | NO:
        raise InvalidError("'{text}' is neither yes nor no", field=field, text=text)
    return text.lower() in YES


def _altitude(field: str, text: str) -> float:
    try:
        metres = float(text or 0)
    except ValueError:
        metres = float("nan")
    if not -500 <= metres <= 6000:
        raise InvalidError("The altitude must be between -500 and 6000 m", field=field)
    return metres


def _zone(field: str, text: str) -> str:
    try:
        return str(ZoneInfo(text)) if text else ""
    except (KeyError, ValueError, OSError):
        raise InvalidError("'{text}' is not a time zone such as Asia/Shanghai", field=field, text=text) from None


def _topic(field: str, text: str) -> str | None:
    if any(wildcard in text for wildcard in "+#\0") or len(text) > 200:
        raise InvalidError("'{text}' is no topic: at most 200 characters, without + and #", field=field, text=text)
    return text or None


def _convention(field: str, text: str) -> str:
    return _pattern(CONVENTION, "'{text}' is not a convention")(field, text) if text else ""


def _listed(known: Mapping[str, str]) -> Parse:
    def parse(field: str, text: str) -> list[str]:
        given = [word for word in LISTED.split(text) if word]
        for word in given:
            if word not in known:
                raise InvalidError("'{text}' is not one of {known}", field=field, text=word, known=", ".join(known))
        return sorted({known[word] for word in given})

    return parse


def _chosen(known: Mapping[str, str], message_id: str) -> Parse:
    def parse(field: str, text: str) -> str:
        if text not in known:
            raise InvalidError(message_id, field=field, text=text, known=", ".join(known))
        return known[text]

    return parse


ROLE_NAMES = {role.value: role.value for role in Role if role in STAFF} | {
    "接线员": "operator", "派工员": "dispatcher", "调度": "dispatcher", "维修人员": "technician", "维修": "technician",
    "配件": "parts_clerk", "回访员": "follow_up", "服务主管": "manager", "主管": "manager", "经销商": "dealer",
    "质检": "qa", "管理员": "admin",
}  # fmt: skip
TYPE_NAMES = {key: key for key in EQUIPMENT} | {kind.name_zh: key for key, kind in EQUIPMENT.items()} | {
    "豆浆机": "soymilk", "新风": "freshair",
}  # fmt: skip

CUSTOMER_FIELDS: Mapping[str, Parse] = {
    "name": _text(needed=True), "contact": _text(), "phone": _phone, "note": _text(4000), "dealer_id": _reference,
}  # fmt: skip
SITE_FIELDS: Mapping[str, Parse] = {
    "name": _text(needed=True), "address": _text(400), "region": _text(64), "altitude_m": _altitude, "demo": _yes,
}  # fmt: skip
MACHINE_FIELDS: Mapping[str, Parse] = {
    "serial": _pattern(SERIAL, "'{text}' is not a serial number: letters, digits, _ and -, at most 64"),
    "type": _chosen(TYPE_NAMES, "No equipment type '{text}'; there are {known}"),
    "model": _text(64, needed=True), "name": _text(), "installed_on": _day, "warranty_until": _day,
    "binding_convention": _convention, "binding_topic": _topic, "binding_zone": _zone,
}  # fmt: skip
PERSON_FIELDS: Mapping[str, Parse] = {
    "login": _pattern(LOGIN, "'{text}' is not a log-in name: small letters, digits, . _ and -, at least 2"),
    "name": _text(needed=True), "phone": _phone, "roles": _listed(ROLE_NAMES), "skills": _listed(TYPE_NAMES),
    "region": _text(64), "locale": _chosen({name: name for name in LOCALES}, "No language '{text}'"),
}  # fmt: skip


def _parsed(fields: Mapping[str, Parse], form: Form, *, new: bool) -> dict[str, Any]:
    """The fields that the form names; of a new thing all of them, empty where the form is silent."""
    return {
        name: parse(name, form.get(name, "").strip()) for name, parse in fields.items() if new or name in form
    }  # fmt: skip


def _write(
    session: Session, actor: Actor, now: datetime, kind: str, row: Any, values: Mapping[str, Any], *, new: bool
) -> None:
    """Set ``values`` on ``row`` and journal what changed; nothing is written where nothing did."""
    changes = {
        name: [_shown(name, None if new else getattr(row, name)), _shown(name, value)]
        for name, value in values.items()
        if new or getattr(row, name) != value
    }
    if not changes:
        return
    for name, value in values.items():
        setattr(row, name, value)
    if new:
        session.add(row)
    session.flush()
    journal(
        session, now, actor, f"{kind}_{'created' if new else 'changed'}", serial=getattr(row, "serial", None),
        detail={"id": row.id, "changes": changes},
    )  # fmt: skip


def _shown(name: str, value: Any) -> Any:
    if name == "phone" and value:
        return mask_phone(value)
    return value.isoformat() if isinstance(value, date) else value


# --------------------------------------------------------------------------------------------------------- the four nouns


def save_customer(
    session: Session, actor: Actor, form: Form, now: datetime, customer_id: int | None = None
) -> Customer:
    """Create a customer, or change the fields that the form names. Raises InvalidError, NotFoundError."""
    new = customer_id is None
    row = Customer(created_at=now) if customer_id is None else query.customer(session, customer_id)
    values = _parsed(CUSTOMER_FIELDS, form, new=new)
    if values.get("dealer_id") is not None and Role.DEALER not in query.person(session, values["dealer_id"]).roles:
        raise InvalidError("This is no dealer", field="dealer_id")
    _write(session, actor, now, "customer", row, values, new=new)
    return row


def save_site(session: Session, actor: Actor, form: Form, now: datetime, site_id: int | None = None) -> Site:
    """Create a site of ``customer_id``, or change the fields that the form names.

    Whether simulated samples count there (``demo``) only an administrator decides, and where water boils does not change under
    a test run. Raises InvalidError, NotFoundError, ForbiddenError.
    """
    new = site_id is None
    row = Site(created_at=now, demo=False) if site_id is None else query.site(session, site_id)
    values = _parsed(SITE_FIELDS, form, new=new)
    if values.get("demo", row.demo) != row.demo and Role.ADMIN not in actor.roles:
        raise ForbiddenError("Only an administrator decides what is a demo site")
    if not new and values.get("altitude_m", row.altitude_m) != row.altitude_m and tickets.measured_at(session, row.id):
        raise InvalidError("A test run at this site is being measured; try again after it", field="altitude_m")
    if new or "customer_id" in form:
        row.customer = query.customer(session, identifier(form, "customer_id"))
        values["customer_id"] = row.customer.id
    _write(session, actor, now, "site", row, values, new=new)
    return row


def save_machine(session: Session, actor: Actor, form: Form, now: datetime, serial: str | None = None) -> Equipment:
    """Create a machine at ``site_id``, or change the one with ``serial``; its serial number and type stay for ever.

    What it sent before it was registered the gateway takes in, before anything that it says afterwards. Only an administrator
    moves it to a demo site. Raises InvalidError, NotFoundError, ForbiddenError.
    """
    new = serial is None
    row = Equipment(created_at=now) if serial is None else query.machine(session, serial)
    values = _parsed(MACHINE_FIELDS, form, new=new)
    for name in ("serial", "type"):
        if not new and values.get(name, getattr(row, name)) != getattr(row, name):
            raise InvalidError("This cannot be changed; register another machine", field=name)
    after = {name: values.get(name, getattr(row, name)) for name in MACHINE_FIELDS}
    if new and query.machine_or_none(session, after["serial"]) is not None:
        raise InvalidError("There is a machine {serial} already", field="serial", serial=after["serial"])
    models = EQUIPMENT[after["type"]].cards
    if after["model"] not in models:
        raise InvalidError(
            "No model '{text}'; there are {known}", field="model", text=after["model"], known=", ".join(models)
        )
    if after["installed_on"] and after["warranty_until"] and after["warranty_until"] < after["installed_on"]:
        raise InvalidError("The warranty ends before the installation", field="warranty_until")
    if bool(after["binding_convention"]) != bool(after["binding_topic"]):
        raise InvalidError("A foreign machine needs both its convention and its topic", field="binding_topic")
    bound = query.machine_of_topic(session, after["binding_topic"]) if after["binding_topic"] else None
    if bound is not None and bound is not row:
        raise InvalidError("{serial} is bound to this topic already", field="binding_topic", serial=bound.serial)
    if new or "site_id" in form:
        site = query.site(session, identifier(form, "site_id"))
        if not new and site.demo and not row.site.demo and Role.ADMIN not in actor.roles:
            raise ForbiddenError("Only an administrator decides what is a demo site")
        row.site = site
        values["site_id"] = row.site.id
    named = (row.binding_convention, row.binding_topic)
    rebound = new or (after["binding_convention"], after["binding_topic"]) != named
    _write(session, actor, now, "machine", row, values, new=new)
    if rebound:
        strangers.claim(session, row, now)
    return row


def save_person(
    session: Session,
    actor: Actor,
    form: Form,
    now: datetime,
    person_id: int | None = None,
    *,
    password_hash: str | None = None,
) -> Person:
    """Create somebody who works here, or change the fields that the form names.

    ``password_hash`` was made by the caller, outside this transaction; a new one ends the log-ins of the person.
    Raises InvalidError, NotFoundError.
    """
    new = person_id is None
    row = Person(created_at=now, active=True) if person_id is None else query.person(session, person_id)
    values = _parsed(PERSON_FIELDS, {**form, "login": form["login"].lower()} if "login" in form else form, new=new)
    after = {name: values.get(name, getattr(row, name)) for name in ("login", "roles", "skills", "phone")}
    namesake = query.person_by_login(session, after["login"])
    if namesake is not None and namesake is not row:
        raise InvalidError(
            "There is somebody with the log-in name {login} already", field="login", login=after["login"]
        )
    if not after["roles"]:
        raise InvalidError("Please choose at least one role", field="roles")
    if Role.TECHNICIAN in after["roles"] and not after["skills"]:
        raise InvalidError("A technician needs at least one equipment type", field="skills")
    if not new and Role.ADMIN not in after["roles"]:
        _not_the_last_admin(session, row)
    _write(session, actor, now, "person", row, values, new=new)
    if password_hash is not None:
        row.password_hash = password_hash
        _log_out(session, row)
        journal(session, now, actor, "password_set", detail={"id": row.id})
    session.flush()
    return row


def set_active(session: Session, actor: Actor, person_id: int, active: bool, now: datetime) -> Person:
    """Let somebody work, or stop them: their log-ins end at once. Raises InvalidError for the last administrator, and while
    they have open tickets."""
    row = query.person(session, person_id)
    if row.active == active:
        return row
    if not active:
        _not_the_last_admin(session, row)
        held = len(tickets.open_tickets(session, assignee_id=row.id))
        if held:
            raise InvalidError("{name} has {count} open tickets; reassign them first", name=row.name, count=held)
        _log_out(session, row)
    row.active = active
    session.flush()
    journal(session, now, actor, "person_activated" if active else "person_deactivated", detail={"id": row.id})
    return row


def _log_out(session: Session, person: Person) -> None:
    session.execute(delete(LoginSession).where(LoginSession.person_id == person.id))


def _not_the_last_admin(session: Session, person: Person) -> None:
    admins = query.people(session, role=Role.ADMIN, active_only=True)
    if [admin.id for admin in admins] == [person.id]:
        raise InvalidError("This is the last administrator", field="roles")


def unmask_phone(session: Session, actor: Actor, kind: str, row_id: int, now: datetime) -> str:
    """The whole telephone number of a ``customer``, ``person`` or ``ticket`` (its caller); that somebody looked is journalled.

    Raises NotFoundError.
    """
    ticket = tickets.ticket(session, row_id) if kind == "ticket" else None
    if ticket is not None:
        phone = ticket.caller_phone
    elif kind == "customer":
        phone = query.customer(session, row_id).phone
    elif kind == "person":
        phone = query.person(session, row_id).phone
    else:
        raise NotFoundError("There is no {kind} {id}", kind=kind, id=row_id)
    journal(
        session, now, actor, "phone_unmasked", ticket=ticket,
        detail={"kind": kind, "id": row_id, "phone": mask_phone(phone)},
    )  # fmt: skip
    session.flush()
    return phone
