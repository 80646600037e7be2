"""``/customers`` and ``/sites``: who owns machines and where they stand. Telephone numbers are masked until somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi.responses import Response

from domain.desk import registry as desk
from domain.errors import NotFoundError, RefusedError
from domain.store.queries import registry, search
from domain.tickets.states import Role
from portal.deps import FormValues, Page, page_router, refused_form, require
from portal.equipment_view import MachineLine, line_of
from portal.errors import status_of
from portal.fields import PageNumber, RowId
from portal.language import Message, masked_phone
from portal.permissions import Permission
from portal.render import Form

router = page_router()
Viewer = Annotated[Page, require(Permission.SEE_CUSTOMERS)]
Editor = Annotated[Page, require(Permission.EDIT_CUSTOMERS)]
Unmasker = Annotated[Page, require(Permission.UNMASK_PHONE)]

CUSTOMER_FIELDS = ("name", "contact", "phone", "note", "dealer_id")
SITE_FIELDS = ("name", "address", "region", "altitude_m", "demo")
NO_PHONE = "no_phone"
"""The tick that removes a number: an empty field keeps what is on record, because the form never shows it."""


@dataclass(frozen=True, slots=True)
class CustomerLine:
    """One customer in the list."""

    id: int
    name: str
    contact: str
    phone: str
    sites: int
    machines: int


@dataclass(frozen=True, slots=True)
class ListView:
    """The list of customers."""

    rows: tuple[CustomerLine, ...]
    total: int
    page: int
    pages: int
    next_pages: str
    q: str
    may_edit: bool
    may_import: bool


@dataclass(frozen=True, slots=True)
class SiteLine:
    """One site with its machines."""

    id: int
    name: str
    address: str
    region: str
    altitude_m: float
    demo: bool
    machines: tuple[MachineLine, ...]


@dataclass(frozen=True, slots=True)
class CustomerView:
    """One customer; ``phone`` is masked, ``shown`` the whole number for whoever asked just now."""

    id: int
    name: str
    contact: str
    phone: str
    shown: str
    note: str
    dealer: str
    sites: tuple[SiteLine, ...]
    may_edit: bool


@dataclass(frozen=True, slots=True)
class CustomerFormView:
    """The form of a customer; ``id`` is None for a new one, ``phone`` the masked number on record."""

    form: Form
    id: int | None
    phone: str
    dealers: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class SiteView:
    """One site."""

    site: SiteLine
    customer_id: int
    customer: str
    contact: str
    phone: str
    may_edit: bool
    may_add_machine: bool


@dataclass(frozen=True, slots=True)
class SiteFormView:
    """The form of a site; ``id`` is None for a new one of the customer. ``may_demo``: the reader decides what is a demo site."""

    form: Form
    id: int | None
    customer_id: int
    customer: str
    regions: tuple[str, ...]
    may_demo: bool


@router.get("/customers")
def index(page: Viewer, q: str = "", p: PageNumber = 1) -> Response:
    """Customers by name."""
    q = q.strip()
    with page.read() as session:
        found = search.customers(session, text=q, page=p)
        rows = tuple(
            CustomerLine(c.id, c.name, c.contact, masked_phone(c.phone), row.sites, row.machines)
            for row in found.rows
            for c in (row.customer,)
        )
    view = ListView(
        rows=rows,
        total=found.total,
        page=found.page,
        pages=found.pages,
        next_pages=f"/customers?{urlencode({'q': q})}&p=",
        q=q,
        may_edit=page.user.may(Permission.EDIT_CUSTOMERS),
        may_import=page.user.may(Permission.EDIT_EQUIPMENT),
    )
    return page.show("customers/index.html", view)


@router.get("/customers/new")
def new(page: Editor) -> Response:
    """The empty form."""
    return _customer_form(page, Form.blank(**dict.fromkeys(CUSTOMER_FIELDS, "")), None)


@router.post("/customers")
def create(page: Editor, form: FormValues) -> Response:
    """Adds a customer."""
    values = {name: form.get(name, "") for name in CUSTOMER_FIELDS}
    try:
        with page.command() as session:
            customer = desk.save_customer(session, page.actor, values, page.now)
    except RefusedError as error:
        return _customer_form(page, refused_form(error, values), None, status=status_of(error))
    return page.go(f"/customers/{customer.id}", Message("Customer {name} saved", name=customer.name))


@router.get("/customers/{customer_id}")
def show(page: Viewer, customer_id: RowId) -> Response:
    """One customer with all sites and machines."""
    return page.show("customers/show.html", _customer_view(page, customer_id))


@router.post("/customers/{customer_id}/phone")
def phone(page: Unmasker, customer_id: RowId) -> Response:
    """The page again, with the whole number; that somebody looked is written down."""
    if not page.user.may(Permission.SEE_CUSTOMERS):
        raise NotFoundError("There is no such page")
    with page.command() as session:
        number = desk.unmask_phone(session, page.actor, "customer", customer_id, page.now)
    return page.show("customers/show.html", _customer_view(page, customer_id, shown=number))


@router.get("/customers/{customer_id}/edit")
def edit(page: Editor, customer_id: RowId) -> Response:
    """The form of a customer; it never shows the number."""
    with page.read() as session:
        customer = registry.customer(session, customer_id)
        form = Form.blank(
            name=customer.name, contact=customer.contact, phone="", note=customer.note, no_phone="",
            dealer_id=str(customer.dealer_id or ""),
        )  # fmt: skip
    return _customer_form(page, form, customer_id)


@router.post("/customers/{customer_id}")
def update(page: Editor, customer_id: RowId, form: FormValues) -> Response:
    """Changes a customer; an empty telephone field keeps the number on record."""
    values = {name: form.get(name, "") for name in (*CUSTOMER_FIELDS, NO_PHONE)}
    sent = {name: values[name] for name in CUSTOMER_FIELDS if name != "phone" or values["phone"].strip()}
    if "dealer_id" not in form:
        del sent["dealer_id"]
    if values[NO_PHONE]:
        sent["phone"] = ""
    try:
        with page.command() as session:
            customer = desk.save_customer(session, page.actor, sent, page.now, customer_id)
    except NotFoundError:
        raise
    except RefusedError as error:
        return _customer_form(page, refused_form(error, values), customer_id, status=status_of(error))
    return page.go(f"/customers/{customer_id}", Message("Customer {name} saved", name=customer.name))


@router.get("/customers/{customer_id}/sites/new")
def new_site(page: Editor, customer_id: RowId) -> Response:
    """The empty form of a site."""
    return _site_form(page, Form.blank(**dict.fromkeys(SITE_FIELDS, "")), None, customer_id)


@router.post("/customers/{customer_id}/sites")
def create_site(page: Editor, customer_id: RowId, form: FormValues) -> Response:
    """Adds a site to a customer."""
    values = _site_values(page, form)
    try:
        with page.command() as session:
            sent = values | {"customer_id": str(customer_id)}
            site = desk.save_site(session, page.actor, sent, page.now)
    except NotFoundError:
        raise
    except RefusedError as error:
        return _site_form(page, refused_form(error, values), None, customer_id, status=status_of(error))
    return page.go(f"/sites/{site.id}", Message("Site {name} saved", name=site.name))


@router.get("/sites/{site_id}")
def show_site(page: Viewer, site_id: RowId) -> Response:
    """One site with its machines."""
    with page.read() as session:
        site = registry.site(session, site_id)
        customer = site.customer
        view = SiteView(
            site=_site_line(page, site, search.machines_of_sites(session, [site_id])),
            customer_id=customer.id,
            customer=customer.name,
            contact=customer.contact,
            phone=masked_phone(customer.phone),
            may_edit=page.user.may(Permission.EDIT_CUSTOMERS),
            may_add_machine=page.user.may(Permission.EDIT_EQUIPMENT),
        )
    return page.show("customers/site.html", view)


@router.get("/sites/{site_id}/edit")
def edit_site(page: Editor, site_id: RowId) -> Response:
    """The form of a site."""
    with page.read() as session:
        site = registry.site(session, site_id)
        form = Form.blank(
            name=site.name, address=site.address, region=site.region, altitude_m=f"{site.altitude_m:g}",
            demo="1" if site.demo else "",
        )  # fmt: skip
    return _site_form(page, form, site_id, site.customer_id)


@router.post("/sites/{site_id}")
def update_site(page: Editor, site_id: RowId, form: FormValues) -> Response:
    """Changes a site."""
    values = _site_values(page, form)
    try:
        with page.command() as session:
            site = desk.save_site(session, page.actor, values, page.now, site_id)
    except NotFoundError:
        raise
    except RefusedError as error:
        with page.read() as session:
            customer_id = registry.site(session, site_id).customer_id
        return _site_form(page, refused_form(error, values), site_id, customer_id, status=status_of(error))
    return page.go(f"/sites/{site_id}", Message("Site {name} saved", name=site.name))


def _customer_form(page: Page, form: Form, customer_id: int | None, *, status: int = 200) -> Response:
    with page.read() as session:
        on_record = masked_phone(registry.customer(session, customer_id).phone) if customer_id is not None else ""
        dealers = tuple((person.id, person.name) for person in search.dealers(session))
    return page.show("customers/edit.html", CustomerFormView(form, customer_id, on_record, dealers), status=status)


def _customer_view(page: Page, customer_id: int, *, shown: str = "") -> CustomerView:
    with page.read() as session:
        customer = registry.customer(session, customer_id)
        sites = registry.sites(session, customer_id=customer_id)
        machines = search.machines_of_sites(session, [site.id for site in sites])
        return CustomerView(
            id=customer.id,
            name=customer.name,
            contact=customer.contact,
            phone=masked_phone(customer.phone),
            shown=shown,
            note=customer.note,
            dealer=registry.person(session, customer.dealer_id).name if customer.dealer_id is not None else "",
            sites=tuple(_site_line(page, site, machines) for site in sites),
            may_edit=page.user.may(Permission.EDIT_CUSTOMERS),
        )


def _site_line(page: Page, site: Any, machines: Mapping[int, list[search.MachineRow]]) -> SiteLine:
    may_see = page.user.may(Permission.SEE_EQUIPMENT)
    return SiteLine(
        id=site.id,
        name=site.name,
        address=site.address,
        region=site.region,
        altitude_m=site.altitude_m,
        demo=site.demo,
        machines=tuple(line_of(row, page.user) for row in machines.get(site.id, ())) if may_see else (),
    )


def _site_values(page: Page, form: FormValues) -> dict[str, str]:
    """What the form sent; an empty tick means no, unless it was not there to be ticked."""
    return {name: form.get(name, "") for name in SITE_FIELDS if name != "demo" or "demo" in form or _may_demo(page)}


def _may_demo(page: Page) -> bool:
    return Role.ADMIN in page.actor.roles


def _site_form(page: Page, form: Form, site_id: int | None, customer_id: int, *, status: int = 200) -> Response:
    with page.read() as session:
        customer = registry.customer(session, customer_id)
        view = SiteFormView(form, site_id, customer_id, customer.name, tuple(search.regions(session)), _may_demo(page))
    return page.show("customers/site_edit.html", view, status=status)
