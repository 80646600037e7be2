"""Engines and transactions: SQLite (WAL, BEGIN IMMEDIATE, foreign keys) and PostgreSQL behind one object.

``Sessions.command()`` is one write transaction, committed at its end; ``Sessions.read()`` one for pages. Nobody below them
commits. Lost races become ConflictError, an unreachable or locked database UnavailableError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from domain.errors import ConflictError, SettingsError, UnavailableError

BUSY_TIMEOUT_MS = 5000
POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 30, "pool_timeout": BUSY_TIMEOUT_MS / 1000}
"""As many connections as a web server has threads: nobody waits for one longer than for a locked database."""
WRITE = "brewair_write"


def _as_json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


JSON: dict[str, Any] = {"json_serializer": _as_json, "json_deserializer": orjson.loads}
"""Ten times as fast as Python's own; a figure that is no number becomes null."""


def open_engine(url: str) -> Engine:
    """The engine of ``url``; makes the folder of an SQLite file. Raises SettingsError where it cannot."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True, hide_parameters=True, **JSON, **POOL)
    if parsed.database:
        folder = Path(parsed.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                "The folder {folder} cannot be made: {problem}", folder=folder, problem=error.strerror
            ) from error
    arguments = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
    # An error's text goes to the log, the values of its statement do not.
    engine = create_engine(
        parsed, connect_args=arguments, hide_parameters=True, **JSON, **(POOL if parsed.database else {})
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions behind our back
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "recursive_triggers=ON",  # or REPLACE would delete a sealed row behind its trigger
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A write lock taken at the beginning waits its turn; one taken half-way fails at once when somebody else wrote.
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


class Sessions:
    """Transactions of one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(**{WRITE: True})

    @contextmanager
    def command(self) -> Iterator[Session]:
        """One write transaction. Raises ConflictError for a lost race, UnavailableError where the database is away."""
        with translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read transaction; whatever it may have changed is rolled back."""
        with translated(), Session(self.engine, expire_on_commit=False, autoflush=False) as session:
            yield session


@contextmanager
def translated() -> Iterator[None]:
    """Database errors as errors of the tree."""
    try:
        yield
    except StaleDataError as error:
        raise ConflictError("Somebody else changed this first; look again and repeat") from error
    except IntegrityError as error:
        raise ConflictError("This exists already, or something it refers to does not") from error
    except (OperationalError, PoolTimeoutError) as error:
        raise UnavailableError("The database does not answer; try again", retry_after=1.0) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise UnavailableError("The database does not answer; try again", retry_after=1.0) from error
        raise
