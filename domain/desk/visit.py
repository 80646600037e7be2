"""The visit: leave, arrive, wait for parts, finish the repair (which starts the test run), go back to it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from domain.catalogue.model import ModelCard
from domain.catalogue.plans import CAUSES, FAULTS, MEASURES, TestPlan, plan_for, plan_to_json
from domain.catalogue.registry import card_of
from domain.desk import device_commands
from domain.desk.actor import Actor
from domain.desk.door import change
from domain.desk.form import Form, checked, day, number
from domain.errors import InvalidError
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.store.tables import Equipment, Repair, TestRun, Ticket
from domain.tickets import deadlines
from domain.tickets.states import Action
from domain.tickets.states import Kind as TicketKind

REPEAT_WITHIN = timedelta(days=30)
TEST_INTERVAL_S = 5
TEST_MODE_MARGIN_S = 900
"""Test mode outlasts the longest run by a quarter of an hour (EJ), then reverts by itself."""
PROGRAMS = {
    "soymilk:motor": "grinds",
    "soymilk:inlet": "fills",
    "soymilk:electrical": "full",
    "freshair:fan": "levels",
    "freshair:ptc": "heater",
}
"""Plan → program of test mode that shows what the plan must see; the machine's own first one otherwise (wire.md)."""


def leave(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """On the way; announces the arrival window."""
    values = checked(Action.LEAVE, form)
    return change(session, ticket, Action.LEAVE, actor, now, version=version, detail=dict(values))


def arrive(session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None) -> Ticket:
    """At the machine: from here on only a verdict or a waiver ends the ticket."""
    values = checked(Action.ARRIVE, form)
    change(session, ticket, Action.ARRIVE, actor, now, version=version, detail=dict(values))
    ticket.repair_started_at = ticket.repair_started_at or now
    ticket.muted_until = now + deadlines.MUTE_AT_MOST
    session.flush()
    return ticket


def wait_for_parts(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """A named part is missing and promised for a day; the deadline stands still."""
    values = checked(Action.WAIT_FOR_PARTS, form)
    promised = day(values, "promised_on")
    if promised is not None and promised < now.date():
        raise InvalidError("The promised day is in the past", field="promised_on")
    return change(session, ticket, Action.WAIT_FOR_PARTS, actor, now, version=version, detail=dict(values))


def parts_arrived(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """The next visit keeps the history."""
    change(session, ticket, Action.PARTS_ARRIVED, actor, now, version=version)
    ticket.dispatched_at = now
    ticket.window_from = ticket.window_to = None
    session.flush()
    return ticket


def finish_repair(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Record fault, cause and measure by code; every earlier verdict is void and a new test run begins.

    Raises InvalidError for unknown codes, and where the ticket has no machine that could be measured.
    """
    values = checked(Action.FINISH_REPAIR, form)
    machine = _machine(session, ticket)
    for field, known in (("fault", FAULTS), ("cause", CAUSES), ("measure", MEASURES)):
        code = known.get(values[field])
        if code is None or code.type not in ("", machine.type):
            raise InvalidError("'{code}' is not a code for this machine", field=field, code=values[field])
    target_l = number(values, "target_l", low=0.1, high=500)
    change(session, ticket, Action.FINISH_REPAIR, actor, now, version=version, detail=dict(values))
    ticket.last_repair_at = now
    session.add(
        Repair(
            ticket_id=ticket.id,
            person_id=actor.person_id,
            finished_at=now,
            fault=values["fault"],
            cause=values["cause"],
            measure=values["measure"],
            note=values["note"],
        )
    )
    start_run(session, ticket, machine, actor, now, measure=values["measure"], target_l=target_l)
    session.flush()
    return ticket


def _machine(session: Session, ticket: Ticket) -> Equipment:
    if ticket.serial is None:
        raise InvalidError("This ticket has no machine to measure", field="serial")
    return registry.machine(session, ticket.serial)


def card_for(machine: Equipment) -> ModelCard:
    """The model card of a machine at the altitude of its site."""
    return dataclasses.replace(card_of(machine.type, machine.model), site_altitude_m=machine.site.altitude_m)


def plan_of(session: Session, ticket: Ticket, machine: Equipment, measure: str, now: datetime) -> TestPlan:
    """The plan by measure, family and history; an installation is always judged by the acceptance plan."""
    visits = query.repair_visits(session, machine.serial, now - REPEAT_WITHIN)
    family = "acceptance" if ticket.kind == TicketKind.INSTALLATION else ticket.family
    return plan_for(machine.type, family, measure, card_for(machine), visits)


def start_run(
    session: Session,
    ticket: Ticket,
    machine: Equipment,
    actor: Actor,
    now: datetime,
    *,
    measure: str,
    target_l: float | None,
    plan: dict[str, Any] | None = None,
) -> TestRun:
    """Begin measuring: the run gets its own copy of plan and card, and the machine is asked for test mode."""
    copied = plan or json.loads(plan_to_json(plan_of(session, ticket, machine, measure, now)))
    run = TestRun(
        ticket_id=ticket.id,
        serial=machine.serial,
        attempt=len(query.runs(session, ticket.id)) + 1,
        plan=copied,
        card=dataclasses.asdict(card_for(machine)),
        original_rule=ticket.rule,
        entries={},
        target_l=target_l,
        demo_site=machine.site.demo,
        started_by_id=actor.person_id,
        started_at=now,
    )
    session.add(run)
    ttl_s = int(copied["cap_s"] + copied["rest_s"]) + TEST_MODE_MARGIN_S
    lasts = timedelta(seconds=ttl_s)
    ticket.muted_until = max(ticket.muted_until or now, now + lasts)
    params: dict[str, Any] = {
        "interval_s": TEST_INTERVAL_S, "ttl_s": ttl_s, "active_s": int(copied["min_active_s"]),
    }  # fmt: skip
    if copied["key"] in PROGRAMS:
        params["program"] = PROGRAMS[copied["key"]]
    device_commands.queue(session, machine.serial, "test_mode", params, now, valid_for=lasts)
    return run


def back_to_repair(
    session: Session, ticket: Ticket, actor: Actor, form: Form, now: datetime, version: int | None
) -> Ticket:
    """Not right after all; the verdict is void."""
    values = checked(Action.BACK_TO_REPAIR, form)
    return change(session, ticket, Action.BACK_TO_REPAIR, actor, now, version=version, reason=values["reason"])
