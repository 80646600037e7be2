"""What the equipment pages show: rows of the list, and everything about one machine, filtered for its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy.orm import Session

from domain import wire
from domain.catalogue.model import EquipmentType, ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.desk.visit import card_for
from domain.errors import NotFoundError, UnavailableError
from domain.store.queries import registry, search
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, EquipmentStatus, TestRun, Ticket
from domain.telemetry.port import Telemetry
from portal.auth import User
from portal.call_view import warranty_of
from portal.charts import CHANNEL_LABELS, RANGES_MIN, RUN_STATE_LABELS, ChartRange, chart_of
from portal.language import _, masked_phone
from portal.machine_now import MachineNow, machine_now
from portal.permissions import Permission
from portal.render import Form
from portal.triage import FindingLine, finding_lines

CONDITION_LABELS: Mapping[str, str] = {
    "online": _("Online"),
    "silent": _("Silent"),
    "never": _("Never heard of"),
    "finding": _("With findings"),
    "ticket": _("With open tickets"),
}
"""``search.CONDITIONS``, in words."""

CARD_LINES: tuple[tuple[str, str, Callable[[ModelCard], float | tuple[float, ...]]], ...] = (
    (_("Rated voltage"), "V", lambda card: card.rated_v),
    (_("Phases"), "", lambda card: card.phases),
    (_("Rated heating power"), "W", lambda card: card.p_heat_w),
    (_("Heating elements"), "", lambda card: card.heater_elements if card.p_heat_w else 0),
    (_("Rated motor power"), "W", lambda card: card.p_motor_w),
    (_("Fan power by level"), "W", lambda card: card.p_fan_w),
    (_("Standby power"), "W", lambda card: card.p_standby_w),
    (_("Batch"), "L", lambda card: card.batch_l),
    (_("Lowest fill flow"), "L/min", lambda card: card.fill_lpm_min),
    (_("Hold at the boil"), "s", lambda card: card.t_boil_hold_s if card.p_heat_w else 0),
    (_("Boils at this site at"), "°C", lambda card: card.boiling_c if card.p_heat_w else 0),
    (_("Airflow by level"), "m³/h", lambda card: card.airflow_m3h),
    (_("Fan speed by level"), "rpm", lambda card: card.rpm),
    (_("PM2.5 efficiency"), "%", lambda card: 100 * card.eta_pm25),
    (_("Pressure drop, clean filter"), "Pa", lambda card: card.dp_clean_pa),
    (_("Pressure drop, change the filter"), "Pa", lambda card: card.dp_final_pa),
)
"""The nameplate as people read it; what a model does not have is left out."""


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One machine in a list; ``customer`` is '' for who may not see customers."""

    serial: str
    name: str
    type: str
    model: str
    site_id: int
    site: str
    region: str
    customer: str
    online: bool | None
    seen_at: datetime | None
    run_state: str
    findings: int
    tickets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """The list of machines."""

    rows: tuple[MachineLine, ...]
    total: int
    page: int
    pages: int
    next_pages: str
    q: str
    type: str
    condition: str
    region: str
    types: tuple[EquipmentType, ...]
    conditions: tuple[tuple[str, str], ...]
    regions: tuple[str, ...]
    counts: Mapping[str, int]
    may_edit: bool
    may_see_customers: bool
    may_see_tickets: bool


def line_of(row: search.MachineRow, user: User) -> MachineLine:
    """A row of a list for this reader; the row's site must be loaded, its customer too for who may see it."""
    machine, status = row.machine, row.status
    may_see_customer = user.may(Permission.SEE_CUSTOMERS)
    return MachineLine(
        serial=machine.serial,
        name=machine.name,
        type=machine.type,
        model=machine.model,
        site_id=machine.site_id,
        site=machine.site.name,
        region=machine.site.region,
        customer=machine.site.customer.name if may_see_customer else "",
        online=status.online if status else None,
        seen_at=status.last_seen_at if status else None,
        run_state=RUN_STATE_LABELS.get(status.run_state, status.run_state) if status else "",
        findings=row.findings,
        tickets=row.tickets if user.may(Permission.SEE_TICKETS) else 0,
    )


def list_view(
    session: Session,
    user: User,
    *,
    q: str,
    equipment_type: str,
    condition: str,
    region: str,
    page: int,
    next_pages: str,
) -> ListView:
    """The machines that fit, for this reader."""
    may_see_tickets = user.may(Permission.SEE_TICKETS)
    conditions = {key: text for key, text in CONDITION_LABELS.items() if key != "ticket" or may_see_tickets}
    found = search.machines(
        session, text=q, equipment_type=equipment_type, condition=condition if condition in conditions else "",
        region=region, page=page,
    )  # fmt: skip
    return ListView(
        rows=tuple(line_of(row, user) for row in found.rows),
        total=found.total,
        page=found.page,
        pages=found.pages,
        next_pages=next_pages,
        q=q,
        type=equipment_type,
        condition=condition,
        region=region,
        types=tuple(EQUIPMENT.values()),
        conditions=tuple(conditions.items()),
        regions=tuple(search.regions(session)),
        counts=search.machine_counts(session),
        may_edit=user.may(Permission.EDIT_EQUIPMENT),
        may_see_customers=user.may(Permission.SEE_CUSTOMERS),
        may_see_tickets=may_see_tickets,
    )


@dataclass(frozen=True, slots=True)
class CardLine:
    """One line of a nameplate."""

    name: str
    figures: tuple[float, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class LatestLine:
    """One channel's newest value: a figure, a flag (yes or no) or a text."""

    name: str
    figure: float | None
    flag: bool | None
    text: str
    unit: str


@dataclass(frozen=True, slots=True)
class TicketLine:
    """A ticket of the machine."""

    id: int
    state: str
    kind: str
    family: str
    severity: int
    assignee: str
    opened_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class PlanName:
    """What a run measured, as its own copy of the plan says."""

    name_zh: str
    name_en: str


@dataclass(frozen=True, slots=True)
class RunLine:
    """A test run of the machine; ``ticket_id`` is None for who may not see tickets."""

    id: int
    ticket_id: int | None
    attempt: int
    purpose: str
    plan: PlanName
    outcome: str
    started_at: datetime
    decided_at: datetime | None
    void: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowView:
    """One machine. ``customer`` fields are '' for who may not see customers; ``card`` is empty where the model has none."""

    serial: str
    name: str
    type: str
    model: str
    card_name: ModelCard | None
    card: tuple[CardLine, ...]
    site_id: int
    site: str
    address: str
    region: str
    demo: bool
    customer_id: int | None
    customer: str
    phone: str
    installed_on: date | None
    warranty: str
    warranty_until: date | None
    convention: str
    topic: str
    zone: str
    prefix: str
    now: MachineNow
    fw: str
    interval_s: float | None
    simulated: bool
    latest: tuple[LatestLine, ...]
    findings: tuple[FindingLine, ...]
    tickets: tuple[TicketLine, ...]
    runs: tuple[RunLine, ...]
    chart: ChartRange | None
    minutes: int
    ranges: tuple[int, ...]
    may_edit: bool
    may_see_customer: bool
    may_see_tickets: bool
    may_see_runs: bool
    may_call: bool


def show_view(
    session: Session,
    telemetry: Telemetry,
    user: User,
    serial: str,
    now: datetime,
    today: date,
    minutes: int,
    *,
    chart: bool,
) -> ShowView:
    """Everything about one machine, for this reader. Raises NotFoundError."""
    machine = known(session, serial)
    status = registry.status(session, serial)
    may_see_customer = user.may(Permission.SEE_CUSTOMERS)
    may_see_tickets = user.may(Permission.SEE_ALL_TICKETS)
    customer = machine.site.customer
    try:
        card: ModelCard | None = card_for(machine)
    except NotFoundError:
        card = None
    return ShowView(
        serial=machine.serial,
        name=machine.name,
        type=machine.type,
        model=machine.model,
        card_name=card,
        card=card_lines(card) if card else (),
        site_id=machine.site_id,
        site=machine.site.name,
        address=machine.site.address if may_see_customer else "",
        region=machine.site.region,
        demo=machine.site.demo,
        customer_id=customer.id if may_see_customer else None,
        customer=customer.name if may_see_customer else "",
        phone=masked_phone(customer.phone) if may_see_customer else "",
        installed_on=machine.installed_on,
        warranty=warranty_of(machine, today),
        warranty_until=machine.warranty_until,
        convention=CONVENTIONS.get(machine.binding_convention, machine.binding_convention),
        topic=machine.binding_topic or "",
        zone=machine.binding_zone,
        prefix=wire.prefix(machine.type, machine.serial),
        now=machine_now(session, machine, now),
        fw=status.fw if status else "",
        interval_s=status.interval_s if status else None,
        simulated=status.simulated if status else False,
        latest=latest_lines(machine, status) if status else (),
        findings=finding_lines(query.uncleared_findings(session, serial)),
        tickets=tuple(map(_ticket_line, query.tickets_of_machine(session, serial, limit=20)))
        if may_see_tickets
        else (),
        runs=tuple(_run_line(run, may_see_tickets) for run in query.runs_of_machine(session, serial, limit=20)),
        chart=_chart(session, telemetry, machine, now, minutes) if chart and card else None,
        minutes=minutes,
        ranges=RANGES_MIN,
        may_edit=user.may(Permission.EDIT_EQUIPMENT),
        may_see_customer=may_see_customer,
        may_see_tickets=may_see_tickets,
        may_see_runs=may_see_tickets,
        may_call=user.may(Permission.TAKE_CALLS),
    )


def known(session: Session, serial: str) -> Equipment:
    """The machine; a text that can be no serial number is one that does not exist. Raises NotFoundError."""
    if not wire.SERIAL.match(serial):
        raise NotFoundError("There is no machine {serial}", serial=search.plain(serial))
    return registry.machine(session, serial)


def _chart(
    session: Session, telemetry: Telemetry, machine: Equipment, now: datetime, minutes: int
) -> ChartRange | None:
    try:
        return chart_of(session, telemetry, machine, now, minutes)
    except UnavailableError:
        return None


def card_lines(card: ModelCard) -> tuple[CardLine, ...]:
    """The nameplate, without what the model does not have."""
    found = ((name, unit, figure(card)) for name, unit, figure in CARD_LINES)
    return tuple(
        CardLine(name, tuple(float(f) for f in figures) if isinstance(figures, tuple) else (float(figures),), unit)
        for name, unit, figures in found
        if figures
    )


def latest_lines(machine: Equipment, status: EquipmentStatus) -> tuple[LatestLine, ...]:
    """Every channel's newest value, in the catalogue's order."""
    channels = EQUIPMENT[machine.type].channels if machine.type in EQUIPMENT else {}
    return tuple(
        LatestLine(
            name=CHANNEL_LABELS.get(key, key),
            figure=float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None,
            flag=value if isinstance(value, bool) else None,
            text=RUN_STATE_LABELS.get(value, value) if isinstance(value, str) else "",
            unit=channel.unit,
        )
        for key, channel in channels.items()
        if (value := status.latest.get(key)) is not None
    )


def _ticket_line(ticket: Ticket) -> TicketLine:
    return TicketLine(
        id=ticket.id,
        state=ticket.state,
        kind=ticket.kind,
        family=ticket.family,
        severity=ticket.severity,
        assignee=ticket.assignee.name if ticket.assignee else "",
        opened_at=ticket.opened_at,
        ended_at=ticket.ended_at,
    )


def _run_line(run: TestRun, may_see_tickets: bool) -> RunLine:
    key = str(run.plan.get("key", ""))
    return RunLine(
        id=run.id,
        ticket_id=run.ticket_id if may_see_tickets else None,
        attempt=run.attempt,
        purpose=run.purpose,
        plan=PlanName(str(run.plan.get("name_zh", key)), str(run.plan.get("name_en", key))),
        outcome=run.outcome,
        started_at=run.started_at,
        decided_at=run.decided_at,
        void=run.voided_at is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EditView:
    """The form of a machine; ``serial`` is '' for a new one, ``claim``: it speaks already. ``models`` are grouped by type."""

    form: Form
    serial: str
    models: tuple[tuple[EquipmentType, tuple[ModelCard, ...]], ...]
    sites: tuple[tuple[str, str], ...]
    conventions: tuple[tuple[str, str], ...]
    claim: bool
    may_see_customers: bool


FIELDS = (
    "serial", "model", "name", "site_id", "installed_on", "warranty_until", "binding_convention", "binding_topic",
    "binding_zone",
)  # fmt: skip
CONVENTIONS: Mapping[str, str] = {
    "airgradient": "AirGradient", "alink": "Alink", "homie": "Homie", "miot": "MIoT", "shelly": "Shelly",
    "sparkplug": "Sparkplug B", "tasmota": "Tasmota", "tuya": "Tuya", "zigbee2mqtt": "Zigbee2MQTT",
}  # fmt: skip
"""Foreign conventions that a gateway understands (a test compares them with the gateway's), and what they call themselves."""
MOST_SITES = 2000


def values_of(session: Session, serial: str) -> dict[str, str]:
    """A machine as its form shows it. Raises NotFoundError."""
    machine = known(session, serial)
    return {name: _typed(getattr(machine, name)) for name in FIELDS}


def _typed(value: object) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, date) else str(value)


def edit_view(
    session: Session, user: User, form: Form, serial: str = "", equipment_type: str = "", *, claim: bool = False
) -> EditView:
    """The form with its choices; of a known ``equipment_type`` only its models."""
    kinds = [EQUIPMENT[equipment_type]] if equipment_type in EQUIPMENT else EQUIPMENT.values()
    may_see = user.may(Permission.SEE_CUSTOMERS)
    return EditView(
        form=form,
        serial=serial,
        models=tuple((kind, tuple(kind.cards.values())) for kind in kinds),
        sites=tuple(
            (str(site.id), f"{site.name} · {site.customer.name}" if may_see else site.name)
            for site in registry.sites(session, limit=MOST_SITES)
        ),
        conventions=tuple(CONVENTIONS.items()),
        claim=claim,
        may_see_customers=may_see,
    )


def type_of_model(model: str) -> str:
    """The equipment type that has this model; '' where none has."""
    return next((kind.key for kind in EQUIPMENT.values() if model in kind.cards), "")
