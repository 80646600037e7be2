"""``brewair admin``: people and equipment from the command line, first of all the first administrator."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from sqlalchemy.orm import Session

from cli import devices
from domain import settings
from domain.clock import SystemClock
from domain.desk import csv_import, registry
from domain.desk.actor import SHELL
from domain.errors import InvalidError, NotFoundError, RefusedError
from domain.store import schema
from domain.store.queries import registry as query
from domain.store.session import Sessions, open_engine
from portal.auth import SHORTEST_PASSWORD, hash_password

app = typer.Typer(help="People and equipment: the first administrator, imports, passwords.", no_args_is_help=True)
app.add_typer(devices.app, name="devices")

BROKEN_FILE = 1


def _sessions() -> Sessions:
    engine = open_engine(settings.load().database_url)
    schema.upgrade(engine)
    return Sessions(engine)


def _password(file: Path | None) -> str:
    """The new password, from a file's first line or typed twice; never from the command line, where others can read it."""
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidError("Cannot read the password from {file}: {problem}", file=file, problem=error) from error
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise InvalidError("The two passwords differ")
    else:
        raise InvalidError("There is no terminal to type a password on; give --password-file")
    if len(password) < SHORTEST_PASSWORD:
        raise InvalidError("The password needs at least {count} characters", count=SHORTEST_PASSWORD)
    return password


@contextmanager
def _fields_named() -> Iterator[None]:
    """A refusal on the command line names its field, as a form on a page would show it."""
    try:
        yield
    except InvalidError as error:
        if error.field is None:
            raise
        raise RefusedError("{field}: {problem}", field=error.field, problem=str(error)) from error


@app.command()
def create(
    login: str = typer.Option(..., help="Name to log in with."),
    name: str = typer.Option(..., help="Full name."),
    role: list[str] = typer.Option(["admin"], help="May be given several times."),
    skill: list[str] = typer.Option([], help="Equipment type of a technician; may be given several times."),
    phone: str = typer.Option("", help="Telephone number."),
    region: str = typer.Option("", help="Region of a technician."),
    password_file: Path | None = typer.Option(None, help="File whose first line is the password; asked for without."),
) -> None:
    """Create somebody who can log in."""
    form = {
        "login": login,
        "name": name,
        "roles": ",".join(role),
        "skills": ",".join(skill),
        "phone": phone,
        "region": region,
    }
    sessions, now = _sessions(), SystemClock().now()
    password_hash = hash_password(_password(password_file))  # slow by design: not inside the transaction
    with _fields_named(), sessions.command() as session:
        person = registry.save_person(session, SHELL, form, now, password_hash=password_hash)
    typer.echo(f"created {person.login} ({', '.join(person.roles)})")


@app.command("reset-password")
def reset_password(
    login: str = typer.Option(..., help="Whose."),
    password_file: Path | None = typer.Option(None, help="File whose first line is the password; asked for without."),
) -> None:
    """Set a new password; whoever is logged in with the old one is logged out."""
    sessions, now = _sessions(), SystemClock().now()
    with sessions.read() as session:
        _known(session, login)
    password_hash = hash_password(_password(password_file))
    with sessions.command() as session:
        registry.save_person(session, SHELL, {}, now, _known(session, login), password_hash=password_hash)
    typer.echo(f"new password for {login}")


def _known(session: Session, login: str) -> int:
    person = query.person_by_login(session, login)
    if person is None:
        raise NotFoundError("There is nobody with the log-in name {login}", login=login)
    return person.id


@app.command()
def people() -> None:
    """List who can log in."""
    with _sessions().read() as session:
        for person in query.people(session):
            state = "" if person.active else " (not active)"
            state += "" if person.password_hash else " (no password)"
            typer.echo(f"{person.login}\t{person.name}\t{', '.join(person.roles)}{state}")


@app.command("import-equipment")
def import_equipment(
    file: Path = typer.Argument(..., help="CSV: one machine a row, with its site and customer."),
    dry_run: bool = typer.Option(False, help="Only say what the file would bring."),
) -> None:
    """Import customers, sites and machines: all of the file or nothing."""
    raw = _read(file)
    with _sessions().command() as session:
        report = csv_import.import_equipment(session, SHELL, raw, SystemClock().now(), dry_run=dry_run)
    _tell(report, dry_run=dry_run)


@app.command("import-people")
def import_people(
    file: Path = typer.Argument(..., help="CSV: one person a row; passwords are set afterwards."),
    dry_run: bool = typer.Option(False, help="Only say what the file would bring."),
) -> None:
    """Import people: all of the file or nothing."""
    raw = _read(file)
    with _sessions().command() as session:
        report = csv_import.import_people(session, SHELL, raw, SystemClock().now(), dry_run=dry_run)
    _tell(report, dry_run=dry_run)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidError("Cannot read {file}: {problem}", file=file, problem=error.strerror) from error


def _tell(report: csv_import.Report, *, dry_run: bool) -> None:
    for wrong in report.errors:
        typer.echo(f"line {wrong.line}{f', {wrong.column}' if wrong.column else ''}: {wrong.error}", err=True)
    if report.errors:
        typer.echo(f"{len(report.errors)} errors in {report.rows} rows; nothing was imported", err=True)
        raise typer.Exit(BROKEN_FILE)
    would = "would be " if dry_run else ""
    for noun in dict.fromkeys((*report.created, *report.changed)):
        created, changed = report.created.get(noun, 0), report.changed.get(noun, 0)
        typer.echo(f"{noun}: {created} {would}created, {changed} {would}changed")
    typer.echo(f"{report.rows} rows")
