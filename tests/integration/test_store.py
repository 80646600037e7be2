"""The store on both databases: migrations up and down, models that agree with them, sealed rows, one open ticket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from domain.errors import BrewairError, SettingsError, UnavailableError
from domain.store import schema
from domain.store.session import Sessions, open_engine
from domain.store.tables import Base, Customer, Equipment, Journal, Site, TestRun, Ticket, VerdictRow

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
        assert MigrationContext.configure(connection).get_current_revision() == schema.newest()


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


def test_one_open_ticket_per_machine_and_family(engine: Engine) -> None:
    schema.upgrade(engine)
    sessions = Sessions(engine)
    _seed(sessions)
    with pytest.raises(BrewairError), sessions.command() as session:
        session.add(_ticket("testing"))
    with sessions.command() as session:
        session.add_all([_ticket("closed"), _ticket("cancelled"), _ticket("solved_by_phone"), _ticket(family="water")])


def test_a_database_survives_the_end_of_a_program(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'folder' / 'brewair.db'}"
    first = open_engine(url)
    schema.upgrade(first)
    _seed(Sessions(first))
    first.dispose()
    with Sessions(open_engine(url)).read() as session:
        assert session.get(Ticket, 1) is not None
