"""The store on both databases: migrations up and down, models that agree with them, sealed rows, one open ticket."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from domain.clock import from_ms
from domain.desk import closing, evidence
from domain.desk.intake import Call, open_from_call
from domain.desk.verification import append_samples, judge_run, judge_running
from domain.errors import BrewairError, SettingsError, UnavailableError
from domain.store import schema
from domain.store.queries import evidence as query_evidence
from domain.store.queries import tickets as query
from domain.store.session import POOL, Sessions, open_engine
from domain.store.tables import Base, Customer, Equipment, Journal, Site, TestRun, Ticket, VerdictRow
from domain.tickets.states import TRANSITIONS, Action, State
from domain.tickets.states import Kind as TicketKind
from tests.desk_world import World, moved
from tests.servers import PostgreSQL
from tests.unit.verification.traces import readings, soymilk

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of each kind, without any schema."""
    url = f"sqlite:///{tmp_path / 'brewair.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").fresh_database()
    made = open_engine(url)
    yield made
    made.dispose()


def test_the_newest_revision_is_the_head_of_the_migrations() -> None:
    script = ScriptDirectory(str(schema.MIGRATIONS))
    assert script.get_heads() == [schema.NEWEST]
    assert {one.revision for one in script.walk_revisions()} == {
        path.name.partition("_")[0] for path in (schema.MIGRATIONS / "versions").glob("[0-9]*.py")
    }


def test_upgrade_makes_what_the_models_say(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    schema.upgrade(engine)  # a second start changes nothing


def test_down_to_nothing_and_up_again(engine: Engine) -> None:
    schema.upgrade(engine)
    schema.downgrade(engine)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    schema.upgrade(engine)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_programs_that_start_at_once_wait_for_each_other(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    problems: list[BaseException] = []
    ready = threading.Barrier(6)

    def start() -> None:
        own = open_engine(url)
        try:
            ready.wait()
            schema.upgrade(own)
        except BaseException as problem:  # the thread's only way to tell
            problems.append(problem)
        finally:
            own.dispose()

    programs = [threading.Thread(target=start) for _ in range(6)]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert problems == []
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == schema.NEWEST


def test_a_newer_database_is_refused_clearly(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"newer version of brewair .*9999"):
        schema.upgrade(engine)


def test_a_database_that_is_away_or_cannot_be_written_says_why(tmp_path: Path) -> None:
    away = open_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2")
    with pytest.raises(UnavailableError, match="cannot be used"):
        schema.upgrade(away)
    (tmp_path / "brewair.db").mkdir()
    with pytest.raises(SettingsError, match="cannot be used"):
        schema.upgrade(open_engine(f"sqlite:///{tmp_path / 'brewair.db'}"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be made"):
        open_engine(f"sqlite:///{tmp_path / 'file' / 'brewair.db'}")


def _seed(sessions: Sessions) -> None:
    with sessions.command() as session:
        customer = Customer(name="豆香园", created_at=NOW)
        site = Site(customer=customer, name="一店", created_at=NOW)
        session.add(Equipment(serial="SMM-1", type="soymilk", model="SMM-25", site=site, created_at=NOW))
        session.flush()
        ticket = _ticket()
        session.add(ticket)
        session.flush()
        run = TestRun(ticket_id=ticket.id, serial="SMM-1", attempt=1, plan={}, card={}, started_at=NOW)
        session.add(run)
        session.flush()
        session.add(Journal(at=NOW, ticket_id=ticket.id, actor_name="brewair", action="opened"))
        session.add(
            VerdictRow(
                run_id=run.id, outcome="passed", recorded_at=NOW, body={}, evidence=b"x", evidence_sha256="y",
                evidence_samples=1,
            )
        )  # fmt: skip


def _ticket(state: str = "reported", family: str = "heating") -> Ticket:
    return Ticket(
        kind="repair", state=state, source="telemetry", serial="SMM-1", family=family, opened_at=NOW,
        due_at=NOW + timedelta(hours=24),
    )  # fmt: skip


SEALED = [
    "UPDATE journal SET reason = 'nothing happened'",
    "DELETE FROM journal",
    "UPDATE verdict SET outcome = 'failed'",
    "UPDATE verdict SET evidence = NULL",
    "DELETE FROM verdict",
    "DELETE FROM test_run",
]
ON_SQLITE = ["REPLACE INTO verdict SELECT * FROM verdict", "REPLACE INTO journal SELECT * FROM journal"]
ON_POSTGRESQL = ["TRUNCATE journal", "TRUNCATE verdict"]


def test_journal_and_verdicts_refuse_every_change(engine: Engine) -> None:
    schema.upgrade(engine)
    _seed(Sessions(engine))
    for statement in SEALED + (ON_SQLITE if engine.dialect.name == "sqlite" else ON_POSTGRESQL):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(statement))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM journal")) == 1
        assert connection.scalar(text("SELECT outcome FROM verdict")) == "passed"


FIXED = [
    "UPDATE test_run SET plan = '{}'",
    "UPDATE test_run SET card = '{}'",
    "UPDATE test_run SET original_rule = 'R01'",
    "UPDATE test_run SET target_l = 3.0",
    "UPDATE test_run SET demo_site = NOT demo_site",
    "UPDATE test_run SET started_at = '2020-01-01 00:00:00'",
    "UPDATE test_run SET serial = 'SMM-2'",
]
DECIDED = [
    "UPDATE test_run SET outcome = 'passed'",
    "UPDATE test_run SET outcome = 'pending'",
    "UPDATE test_run SET entries = '{\"switch\": true}'",
    "UPDATE test_run SET decided_at = NULL",
]
STATES = [
    "UPDATE ticket SET state = 'closed'",
    "UPDATE ticket SET state = 'verified'",
    "UPDATE ticket SET state = 'repairing', version = version + 1",
    "UPDATE ticket SET state = 'closed', version = version + 1",
]
KEPT = [
    "UPDATE repair SET measure = 'reset_unit'",
    "UPDATE repair SET finished_at = '2030-01-01 00:00:00'",
    "UPDATE test_run SET purpose = 'probation'",
    "DELETE FROM repair",
    "DELETE FROM finding",
    "DELETE FROM test_run",
]


CLOSING = (
    "INSERT INTO journal (at, actor_name, action, from_state, to_state, reason, detail, ticket_id)"
    " SELECT at, 'somebody', 'close', 'verified', 'closed', '', '{}', ticket_id FROM journal WHERE id = 1"
)
CLOSE = "UPDATE ticket SET state = 'closed', version = version + 1"


def test_a_ticket_closes_with_a_passed_verdict_or_a_waiver_after_its_last_repair_or_not_at_all(engine: Engine) -> None:
    """Even for somebody who knows how to write the journal row."""
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    world.tick(hours=25)
    world.do("manager", Action.WAIVE, number)

    def close(*before: str) -> None:
        with engine.begin() as connection:
            for statement in (*before, CLOSING, CLOSE):
                connection.exec_driver_sql(statement)
            connection.rollback()

    close()  # the waiver proves it
    without = "UPDATE ticket SET waived_at = NULL"
    with pytest.raises(IntegrityError, match="may not be changed"):
        close(without)
    later = "UPDATE ticket SET last_repair_at = '2030-01-01 00:00:00'"
    with pytest.raises(IntegrityError, match="may not be changed"):
        close(later)
    _, other = world.raised(serial="SMM-2")
    assert other != number
    world.do("dispatcher", Action.CLOSE, number)
    assert world.ticket(number).state == State.CLOSED


def test_the_newest_schema_goes_down_and_up_with_rows_in_it(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    schema.downgrade(engine, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ticket SET state = 'verified'")  # nothing is left of the guards
        connection.exec_driver_sql("UPDATE ticket SET state = 'testing'")
        connection.exec_driver_sql("UPDATE repair SET note = 'nothing'")
    schema.upgrade(engine)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ticket SET state = 'verified'")
    world.tick(hours=25)
    assert world.runs(number)[0].outcome == "inconclusive"


def test_a_test_run_stays_what_it_began_as_and_its_outcome_what_was_decided(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    tables = ("test_run", "repair", "finding", "ticket")

    def rows() -> list[object]:
        with engine.connect() as connection:
            return [connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables]

    def refused(*statements: str) -> None:
        before = rows()
        for statement in statements:
            with pytest.raises(IntegrityError, match="may not be changed"), engine.begin() as connection:
                connection.exec_driver_sql(statement)
        assert rows() == before

    refused(*FIXED, *KEPT, *STATES)
    world.tick(hours=25)
    assert world.runs(number)[0].outcome == "inconclusive"
    refused(*FIXED, *KEPT, *DECIDED)
    world.do("wang", Action.BACK_TO_REPAIR, number)
    assert world.runs(number)[0].voided_at is not None
    refused("UPDATE test_run SET voided_at = NULL")


def test_one_open_ticket_per_machine_and_family(engine: Engine) -> None:
    schema.upgrade(engine)
    sessions = Sessions(engine)
    _seed(sessions)
    with pytest.raises(BrewairError), sessions.command() as session:
        session.add(_ticket("testing"))
    with sessions.command() as session:
        session.add_all([_ticket("closed"), _ticket("cancelled"), _ticket("solved_by_phone"), _ticket(family="water")])


def _at_once(jobs: Sequence[Callable[[], object]]) -> list[object]:
    """All jobs, each in a thread of its own, started together: what they returned or raised."""
    ready, results = threading.Barrier(len(jobs)), list[object](jobs)

    def run(index: int) -> None:
        ready.wait()
        try:
            results[index] = jobs[index]()
        except BrewairError as refusal:
            results[index] = refusal

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_who_act_on_one_version_exactly_one_wins(engine: Engine, attempt: int) -> None:
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.do("operator", Action.VISIT_NEEDED, number)
    version = world.ticket(number).version
    jobs = [
        lambda who=who: world.do("dispatcher", Action.ASSIGN, number, version=version, assignee=str(who))
        for who in (world.actors["wang"].person_id, world.actors["li"].person_id)
    ]
    results = _at_once(jobs)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "Ticket"], results
    assert world.actions(number).count("assign") == 1


def test_different_actions_of_many_at_once_leave_a_true_story(engine: Engine) -> None:
    """Two dozen people push at one ticket without saying which version they saw: each step finds the state it needs or none."""
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    pushes = [
        ("operator", Action.VISIT_NEEDED), ("dispatcher", Action.ASSIGN), ("dispatcher", Action.CANCEL), ("wang", Action.ACCEPT),
        ("operator", Action.ASK_CONSENT), ("operator", Action.CONSENT), ("wang", Action.ARRIVE), ("wang", Action.FINISH_REPAIR),
    ] * 3  # fmt: skip
    results = _at_once([lambda p=push: world.do(p[0], p[1], number) for push in pushes])
    assert not any(isinstance(result, UnavailableError) for result in results), results
    done = [result for result in results if isinstance(result, Ticket)]
    with world.read() as session:
        rows = [row for row in query.timeline(session, number) if row.to_state]
    assert len(rows) == len(done) + 1
    for before, after in pairwise(rows):
        assert after.from_state == before.to_state
        assert TRANSITIONS[State(after.from_state), Action(after.action)] == after.to_state
    assert world.ticket(number).state == rows[-1].to_state


def test_fifty_findings_at_once_are_one_ticket(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    findings = [dataclasses.replace(world.finding(), raised_at=1_000 + n) for n in range(50)]
    results = _at_once([lambda f=finding: world.tell(f) for finding in findings])
    assert results == [None] * 50
    (ticket,) = world.tickets()
    assert ticket.occurrences == 50
    told = world.actions(ticket.id)
    assert (told.count("open_from_finding"), told.count("finding_joined")) == (1, 49)
    with world.read() as session:
        assert len(query.findings(session, ticket.id)) == 50


def test_one_finding_told_by_many_at_once_is_one_finding(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    finding = world.finding()
    assert _at_once([lambda: world.tell(finding)] * 20) == [None] * 20
    (ticket,) = world.tickets()
    assert ticket.occurrences == 1


def test_a_call_and_findings_at_once_are_one_ticket(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)

    def call() -> object:
        with world.command() as session:
            words = Call(TicketKind.REPAIR, "不热", "刘", "13800138000", "SMM-1", "heating")
            return open_from_call(session, world.actors["operator"], words, world.now)[1]

    findings = [dataclasses.replace(world.finding(), raised_at=1_000 + n) for n in range(10)]
    results = _at_once([call, call, *(lambda f=finding: world.tell(f) for finding in findings)])
    assert not any(isinstance(result, BrewairError) for result in results), results
    (ticket,) = world.tickets()
    assert ticket.occurrences == 12


def test_samples_that_come_while_the_judge_works_are_judged_or_not_but_never_half(engine: Engine) -> None:
    """What is sealed is what was judged: a sample appended meanwhile is either in both or in neither."""
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    trace = moved(readings(soymilk(), seq=True), "SMM-1", world.now + timedelta(seconds=5))
    world.feed(trace[:280])
    world.now = from_ms(trace[-1].ts) + timedelta(hours=25)

    def judged() -> None:
        with world.command() as session:
            judge_running(session, world.now)

    results = _at_once([judged, *(lambda r=reading: world.feed([r]) for reading in trace[280:292]), judged])
    assert not any(isinstance(result, BrewairError) for result in results), results
    judged()
    run = world.runs(number)[0]
    with world.read() as session:
        verdict = query.verdict(session, run.id)
        assert verdict is not None
        again = judge_run(session, session.merge(run), ended=True)
        assert {**evidence.verdict_body(again), "run": verdict.body["run"]} == verdict.body
        assert verdict.evidence_samples == len(evidence.unpack(verdict.evidence))
        assert query_evidence.bodies(session, run.id) == []


def test_a_page_too_many_is_told_to_come_again(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'brewair.db'}")
    schema.upgrade(engine)
    sessions = Sessions(engine)
    with ExitStack() as stack:
        for _ in range(POOL["pool_size"] + POOL["max_overflow"]):
            stack.enter_context(sessions.read()).execute(text("SELECT 1"))
        with pytest.raises(UnavailableError), sessions.read() as session:
            session.execute(text("SELECT 1"))
    with sessions.read() as session:
        assert session.scalar(text("SELECT 1")) == 1


@contextmanager
def _meanwhile(job: Callable[[], object]) -> Iterator[None]:
    """``job`` begins now in a thread of its own; what is inside the ``with`` ends while it waits, then it is waited for."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(_at_once([job])[0]))
    thread.start()
    time.sleep(0.3)  # long enough for it to come up against whatever holds it up
    yield
    thread.join()
    assert not any(isinstance(result, BrewairError) for result in results), results


def test_a_finding_that_comes_while_its_ticket_is_being_closed_is_not_lost_in_it(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("manager", Action.WAIVE, number)
    world.advance(hours=1)
    again = world.finding()
    with ExitStack() as stack, world.command() as session:
        ticket = query.ticket(session, number, lock=True)
        closing.close(session, ticket, world.actors["dispatcher"], {}, world.now, None)
        stack.enter_context(_meanwhile(lambda: world.tell(again)))
    with world.read() as session:
        row = query.finding_by_key(session, again.episode_key)
        assert row is not None
        assert row.ticket_id != number
        assert query.ticket(session, row.ticket_id or 0).state == State.REPORTED


def test_a_sample_that_is_just_being_written_is_judged_or_left_out_but_not_sealed_unjudged(engine: Engine) -> None:
    schema.upgrade(engine)
    world = World(engine)
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    trace = moved(readings(soymilk(), seq=True), "SMM-1", world.now + timedelta(seconds=5))
    world.feed(trace[:200])
    late = world.now + timedelta(hours=40)

    def judged() -> None:
        with world.command() as session:
            judge_running(session, late)

    with ExitStack() as stack, world.command() as session:
        append_samples(session, trace[200:220], world.now)
        session.flush()
        stack.enter_context(_meanwhile(judged))
    judged()
    with world.read() as session:
        run = query.runs(session, number)[0]
        verdict = query.verdict(session, run.id)
        assert verdict is not None
        assert verdict.evidence_samples == run.samples == 220
        again = evidence.verdict_body(judge_run(session, run, ended=True))
        assert {**again, "run": verdict.body["run"]} == verdict.body


def test_live_pages_miss_no_journal_row_that_commits_late(postgresql: PostgreSQL) -> None:
    """PostgreSQL gives a journal row its id before it commits; a reader of 'id > last' must not run past it."""
    engine = open_engine(postgresql.fresh_database())
    schema.upgrade(engine)
    sessions = Sessions(engine)
    seen: list[str] = []

    def look() -> None:
        with sessions.read() as session:
            last = max((int(row.split()[0]) for row in seen), default=0)
            seen.extend(f"{row.id} {row.action}" for row in query.journal_after(session, last))

    with sessions.command() as slow:
        slow.add(Journal(at=NOW, actor_name="slow", action="slow"))
        slow.flush()
        with sessions.command() as quick:
            quick.add(Journal(at=NOW, actor_name="quick", action="quick"))
        look()
        assert seen == []
    look()
    assert [row.split()[1] for row in seen] == ["slow", "quick"]


def test_a_database_survives_the_end_of_a_program(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'folder' / 'brewair.db'}"
    first = open_engine(url)
    schema.upgrade(first)
    _seed(Sessions(first))
    first.dispose()
    with Sessions(open_engine(url)).read() as session:
        assert session.get(Ticket, 1) is not None
