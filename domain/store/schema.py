"""The schema of the SQL database: brought up to date at every start of a program, by Alembic migrations.

Alembic itself is loaded where there is something to migrate: a gateway that runs for months need not carry it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from domain.errors import SettingsError, UnavailableError
from domain.store.session import WRITE, translated

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0006"
"""The revision that this code needs: the last of ``MIGRATIONS``."""
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x62726577
"""PostgreSQL's advisory lock that lets one program at a time migrate."""


def upgrade(engine: Engine) -> None:
    """Bring the database to the schema of this code; programs that start at once wait for each other.

    Raises SettingsError where the database is of a newer brewair or cannot be written, UnavailableError where it is away.
    """
    with _explained(engine):
        with engine.connect() as connection:
            if _revision(connection) == NEWEST:
                return
        with engine.execution_options(**{WRITE: True}).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            if _revision(connection) != NEWEST:
                from alembic import command

                command.upgrade(_config(connection), "head")


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    """What keeps a database from being used at all, in a word to whoever set it up."""
    try:
        yield
    except OperationalError as error:
        usable = engine.dialect.name != "sqlite" or "locked" in str(error.orig)
        kind = UnavailableError if usable else SettingsError
        raise kind("The database cannot be used: {problem}", problem=str(error.orig).strip()) from error
    except DatabaseError as error:
        if "not a database" not in str(error.orig):
            raise
        raise SettingsError(
            "BREWAIR_DATABASE_URL: {path} is not a database; name another file", path=engine.url.database
        ) from error


def present(engine: Engine) -> str:
    """The revision that the database has, "" where it has none; changes nothing. Raises as :func:`upgrade` does."""
    with _explained(engine), engine.connect() as connection:
        return _revision(connection)


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Take the schema back to ``revision``; what only newer schemas can hold is lost."""
    from alembic import command

    with translated(), engine.execution_options(**{WRITE: True}).begin() as connection:
        command.downgrade(_config(connection), revision)


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    present = str(connection.scalar(text("SELECT version_num FROM alembic_version")) or "")
    if present and present not in {path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}:
        raise SettingsError(
            "The database belongs to a newer version of brewair (its schema is {revision}): install that version",
            revision=present,
        )
    return present


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
