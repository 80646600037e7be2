"""The closed loop in one process: real gateway parts and stores, driven in step with a simulated fleet.

Nothing is skipped: messages go through a broker (or straight into the spool), are made durable, decoded, folded, stored; only
the threads are missing, so that virtual time can run as fast as the parts allow and stays the same at every run.
"""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from device_sim.assertions import ObservedTicket, ObservedVerdict
from device_sim.bus import Bus, Command
from device_sim.fleet import Fleet
from device_sim.machine import Publication
from device_sim.publisher import Broker, Publisher
from device_sim.runner import Outcome, run
from device_sim.scenario import Scenario, Visit
from domain import wire
from domain.catalogue.plans import CAUSES, FAMILY_PLAN, FAULTS, MEASURES
from domain.clock import ManualClock, SystemClock, from_ms, to_ms
from domain.desk import dispatch, registry
from domain.desk.actor import Actor, actor_of
from domain.desk.perform import perform
from domain.errors import UnavailableError
from domain.settings import Settings, load
from domain.store.queries import registry as people
from domain.store.queries import tickets as query
from domain.store.schema import upgrade
from domain.store.session import Sessions, open_engine
from domain.store.tables import Ticket
from domain.telemetry.stores import open_telemetry
from domain.tickets.states import Action, Role, State
from gateway.core.library import compiled
from gateway.ingest.receiver import Receiver
from gateway.ingest.receivers import RECEIVERS
from gateway.ingest.spool import Checkpoint, Spool
from gateway.messages import Message
from gateway.pipeline import Pipeline
from gateway.service import gateway_name, subscriptions

POLL_S = 0.05
MEET_WITHIN_S = 60.0
CONNECTIONS = 2
FOUNDER = Actor("brewair", frozenset((Role.SYSTEM, Role.ADMIN, Role.OPERATOR)))
"""Who registers the machines of a simulation."""


class Loop:
    """Gateway and stores, opened; ``sync`` brings them to the fleet's time. ``bus`` is None until a fleet is attached."""

    def __init__(self, settings: Settings, clock: ManualClock, *, through_broker: bool) -> None:
        self.clock = clock
        self.engine = open_engine(settings.database_url)
        upgrade(self.engine)
        self.sessions = Sessions(self.engine)
        self.telemetry = open_telemetry(settings, lambda refused: self.pipeline.refused(refused))
        self.telemetry.setup()
        self._settings = settings
        self._wall = SystemClock()
        self._expected = self._taken = 0
        self._ours: frozenset[str] = frozenset()
        self._direct: _Direct | None = None
        self._receiver: Receiver | None = None
        if through_broker:
            self._receiver = RECEIVERS[settings.mqtt_receiver](
                settings,
                client_id=gateway_name(settings.shards),
                filters=subscriptions(settings.shards),
                memory=settings.spool_dir / "subscriptions",
                clock=clock,
                rng=random.SystemRandom(),
            )
        self.pipeline = Pipeline(
            gateway=gateway_name(settings.shards),
            spool=Spool(
                settings.spool_dir,
                max_bytes=settings.spool_max_bytes,
                policy=settings.spool_policy,
                durable=through_broker,  # without a broker nothing is acknowledged that could be lost
            ),
            checkpoint=Checkpoint(settings.spool_dir / "stored"),
            sessions=self.sessions,
            telemetry=self.telemetry,
            clock=clock,
            publish=self._publish,
            zone=settings.timezone,
            shards=settings.shards,
            keep_s=settings.spool_keep_s,
            compiled=compiled(settings),
        )

    def attach(self, fleet: Fleet, stack: ExitStack, acks: Path | None = None) -> Bus:
        """Take up the registered machines and connect ``fleet``. Raises UnavailableError where the broker is away."""
        self.pipeline.load()
        self._ours = frozenset(fleet.machines)
        if self._receiver is None:
            self._direct = _Direct(self.pipeline)
            return self._direct
        self._pump(lambda: self._receiver is not None and self._receiver.connected)
        broker = Broker(
            url=self._settings.mqtt_url,
            user=self._settings.mqtt_user,
            password=self._settings.secret_text(self._settings.mqtt_password_file),
            ca_file=self._settings.mqtt_ca_file,
        )
        log = stack.enter_context(acks.open("a")) if acks else None
        publisher = Publisher(broker, fleet.machines.values(), connections=CONNECTIONS, acks=log)
        return _Counted(stack.enter_context(publisher), self)

    def sync(self, last_ts: int, now_ms: int) -> None:
        """Wait until all that was published is taken in, then let business time be ``now_ms``.

        Raises UnavailableError when messages do not arrive within a minute of wall time.
        """
        if self._receiver is not None:
            self._pump(lambda: self._taken >= self._expected)
        self.clock.set(from_ms(now_ms))
        self.pipeline.ingest([])
        self.pipeline.tick(self.clock.now())

    def close(self) -> None:
        """Write what waits, and close everything."""
        self.pipeline.drain()
        if self._receiver is not None:
            self._receiver.close()
        self.pipeline.close()
        self.telemetry.close()
        self.engine.dispose()

    def expect(self, messages: int) -> None:
        """So many more messages are on their way."""
        self._expected += messages

    def _publish(self, topic: str, payload: bytes) -> None:
        if self._direct is not None:
            self._direct.down.append((topic, payload))
        elif self._receiver is not None:
            self._receiver.publish(topic, payload)

    def _pump(self, enough: Callable[[], bool]) -> None:
        receiver, deadline = self._receiver, self._wall.monotonic() + MEET_WITHIN_S
        assert receiver is not None
        while not enough():
            batch = receiver.receive(POLL_S)
            if batch.count:
                self.pipeline.take_in(batch)
                receiver.ack(batch)
                self._taken += sum(self._is_ours(message) for message in batch.messages)
                deadline = self._wall.monotonic() + MEET_WITHIN_S
            elif self._wall.monotonic() > deadline:
                raise UnavailableError("The gateway waits for messages that do not come")

    def _is_ours(self, message: Message) -> bool:
        """Whether the fleet has just said it: a broker that others use, too, has retained and queued messages besides."""
        topic = wire.parse_up(message.topic)
        return topic is not None and topic.serial in self._ours and not message.retained


class _Direct:
    """A bus without a broker: what is published together is made durable together."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.down: list[Command] = []

    def publish(self, publications: Sequence[Publication]) -> None:
        """Take in at once; received when it was said."""
        self._pipeline.ingest([(one.topic, one.payload, one.ts) for one in publications])

    def commands(self) -> list[Command]:
        """Commands since the last call."""
        taken, self.down = self.down, []
        return taken

    def flush(self) -> None:
        """Nothing is ever on its way."""


class _Counted:
    """A publisher's bus whose messages the loop knows to wait for."""

    def __init__(self, publisher: Publisher, loop: Loop) -> None:
        self._publisher, self._loop = publisher, loop

    def publish(self, publications: Sequence[Publication]) -> None:
        """Hand over, and expect them at the other end; nothing is received before it was said."""
        self._loop.clock.set(from_ms(max(one.ts for one in publications)))
        self._loop.expect(len(publications))
        self._publisher.publish(publications)

    def commands(self) -> list[Command]:
        """What came down since the last call."""
        return self._publisher.commands()

    def flush(self) -> None:
        """Block until every message has its PUBACK."""
        self._publisher.flush()


@contextmanager
def open_loop(settings: Settings, clock: ManualClock, *, through_broker: bool) -> Iterator[Loop]:
    """A loop for as long as the ``with`` lasts."""
    loop = Loop(settings, clock, through_broker=through_broker)
    try:
        yield loop
    finally:
        loop.close()


# ------------------------------------------------------------------------------------------------------------- scenarios


def run_scenario(
    scenario: Scenario, *, seed: int | None = None, factor: float | None = None, broker: str | None = None
) -> Outcome:
    """Run a scenario through gateway and stores and compare.

    Without ``broker`` in a temporary folder and without MQTT; with it through that broker, on the stores of the settings.
    ``factor`` slows virtual time down to so many times real time (None: as fast as possible).
    """
    with ExitStack() as stack:
        if broker is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="brewair-sim-"))
            settings = load({"BREWAIR_DATA_DIR": folder})
        else:
            settings = load()
        return play(scenario, settings, through_broker=broker is not None, seed=seed, factor=factor)


def play(
    scenario: Scenario,
    settings: Settings,
    *,
    through_broker: bool,
    seed: int | None = None,
    factor: float | None = None,
    acks: Path | None = None,
) -> Outcome:
    """Run a scenario on the stores, and through the broker, of ``settings``; ``acks`` gets the publishers' PUBACK log."""
    clock = ManualClock(scenario.start)
    with ExitStack() as stack:
        loop = stack.enter_context(open_loop(settings, clock, through_broker=through_broker))
        _register(loop.sessions, scenario, clock.now())
        fleet = scenario.fleet(seed)
        return run(
            scenario,
            bus=loop.attach(fleet, stack, acks),
            observed=Observation(loop.sessions, frozenset(fleet.machines)),
            technician=Crew(loop),
            clock_sync=loop.sync,
            fleet=fleet,
            pace=_pace(scenario, factor),
        )


def _pace(scenario: Scenario, factor: float | None) -> Callable[[int], bool]:
    if factor is None:
        return lambda now_ms: False
    wall = SystemClock()
    began = wall.now()
    stop = threading.Event()

    def wait(now_ms: int) -> bool:
        due = began + timedelta(milliseconds=(now_ms - scenario.start_ms) / factor)
        return bool(wall.wait(due - wall.now(), stop))

    return wait


def _register(sessions: Sessions, scenario: Scenario, now: datetime) -> None:
    """The scenario's sites (as demo sites: their machines are simulated), machines, and people who can serve them."""
    with sessions.command() as session:
        customer = registry.save_customer(session, FOUNDER, {"name": scenario.title or scenario.name}, now)
        sites: dict[str, str] = {}
        for spec in scenario.machines:
            if people.machine_or_none(session, spec.serial) is not None:
                continue
            if spec.site.name not in sites:
                form = {
                    "name": spec.site.name, "customer_id": str(customer.id), "demo": "1",
                    "altitude_m": str(spec.site.altitude_m),
                }  # fmt: skip
                sites[spec.site.name] = str(registry.save_site(session, FOUNDER, form, now).id)
            form = {"serial": spec.serial, "type": spec.type, "model": spec.model, "site_id": sites[spec.site.name]}
            registry.save_machine(session, FOUNDER, form, now)
        for role in (Role.DISPATCHER, Role.TECHNICIAN):
            login = f"sim-{role.value}"
            if people.person_by_login(session, login) is None:
                form = {"login": login, "name": login, "roles": role.value, "skills": "soymilk freshair"}
                registry.save_person(session, FOUNDER, form, now)


class Crew:
    """Dispatcher and technician of a simulation: the hands that lead an open ticket to its test run."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def repair_visit(self, serial: str, visit: Visit, now_ms: int) -> None:
        """Bring the machine's most urgent open ticket to ``repairing`` and finish the repair with the visit's codes."""
        now = from_ms(now_ms)
        with self._loop.sessions.command() as session:
            ticket = next(t for t in query.tickets_of_machine(session, serial) if t.state in OPEN_ON_THE_WAY)
            for state, (action, role) in LEAD.items():
                if ticket.state == state:
                    form: dict[str, str] = {}
                    if action is Action.ASSIGN:
                        form["assignee"] = str(dispatch.propose(session, ticket)[0].candidate.person_id)
                    person = people.people(session, role=role, active_only=True)[0]
                    perform(session, actor_of(person), ticket.id, action, form, now)
            if ticket.equipment is None:
                raise ValueError(serial)
            technician = people.people(session, role=Role.TECHNICIAN, active_only=True)[0]
            codes = _codes(ticket, visit)
            perform(session, actor_of(technician), ticket.id, Action.FINISH_REPAIR, codes, now)


LEAD = {
    State.REPORTED: (Action.VISIT_NEEDED, Role.DISPATCHER),
    State.READY: (Action.ASSIGN, Role.DISPATCHER),
    State.DISPATCHED: (Action.ACCEPT, Role.TECHNICIAN),
    State.ACCEPTED: (Action.ARRIVE, Role.TECHNICIAN),
}
OPEN_ON_THE_WAY = frozenset((*LEAD, State.REPAIRING))


def _codes(ticket: Ticket, visit: Visit) -> dict[str, str]:
    """The visit's codes; where the scenario leaves one out, the first that fits the machine and the ticket's family."""
    assert ticket.equipment is not None
    kind = ticket.equipment.type
    plan = FAMILY_PLAN[kind, ticket.family]
    return {
        "fault": visit.fault or next(c.key for c in FAULTS.values() if c.type == kind),
        "cause": visit.cause or next(c.key for c in CAUSES.values() if c.type == kind),
        "measure": visit.measure or next(c.key for c in MEASURES.values() if c.type == kind and c.plan == plan),
        "note": "",
    }


class Observation:
    """The simulator's read-only view of tickets and verdicts."""

    def __init__(self, sessions: Sessions, serials: frozenset[str]) -> None:
        self._sessions, self._serials = sessions, serials

    def tickets(self) -> list[ObservedTicket]:
        """Tickets of the fleet's machines; opened when their first finding was raised, by device time."""
        with self._sessions.read() as session:
            return [
                ObservedTicket(
                    serial=ticket.serial,
                    family=ticket.family,
                    rule=ticket.rule,
                    opened_at=ticket.triage.get("raised_at_ms") or to_ms(ticket.opened_at),
                )
                for ticket in query.all_tickets(session)
                if ticket.serial in self._serials
            ]

    def verdicts(self) -> list[ObservedVerdict]:
        """Recorded verdicts of the fleet's machines; decided by device time where the judge names a moment."""
        with self._sessions.read() as session:
            return [
                ObservedVerdict(
                    serial=run.serial,
                    outcome=row.outcome,
                    decided_at=row.body.get("decided_at") or to_ms(row.recorded_at),
                )
                for row, run in query.verdicts(session)
                if run.serial in self._serials
            ]
