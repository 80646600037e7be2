"""``/import/{what}``: a table of machines or people: first what it would do and what is wrong line by line, then all of it."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Form as FormField
from fastapi import UploadFile
from fastapi.responses import Response

from domain.desk import csv_import
from domain.desk.csv_import import LineError, Report
from domain.errors import InvalidError, NotFoundError, RefusedError
from portal.deps import Page, page_router, require
from portal.errors import status_of
from portal.language import Message, _
from portal.permissions import Permission

router = page_router()
MOST_BYTES = 2 * 1024 * 1024
"""Of a file: 5000 rows of a telephone book's length (EJ)."""
Import = Callable[..., Report]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of table."""

    key: str
    title: str
    permission: Permission
    columns: Mapping[str, tuple[str, ...]]
    needs: tuple[str, ...]
    run: Import
    after: str
    example: tuple[Mapping[str, str], ...]


KINDS: Mapping[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind(
            "equipment", _("Import machines with their sites and customers"), Permission.EDIT_EQUIPMENT,
            csv_import.EQUIPMENT_COLUMNS, csv_import.EQUIPMENT_NEEDS, csv_import.import_equipment, "/equipment",
            (
                {
                    "customer": "蓝天教育后勤", "contact": "刘志远", "phone": "13958017722", "site": "蓝天小学食堂",
                    "address": "杭州市拱墅区丰潭路 66 号", "region": "华东", "serial": "SM-3001", "type": "豆浆机",
                    "model": "SMM-60", "name": "食堂 1 号豆浆机", "installed_on": "2025-09-01", "warranty_until": "2027-08-31",
                },
                {
                    "customer": "蓝天教育后勤", "site": "蓝天小学食堂", "serial": "FA-3001", "type": "新风机",
                    "model": "FAU-300", "name": "餐厅新风",
                },
            ),
        ),
        Kind(
            "people", _("Import people"), Permission.EDIT_PEOPLE, csv_import.PEOPLE_COLUMNS, csv_import.PEOPLE_NEEDS,
            csv_import.import_people, "/people",
            (
                {
                    "login": "lizhiqiang", "name": "李志强", "phone": "13800138000", "roles": "维修人员",
                    "skills": "豆浆机、新风机", "region": "华东",
                },
                {"login": "zhouxl", "name": "周晓兰", "roles": "接线员"},
            ),
        ),
    )
}  # fmt: skip
COLUMN_LABELS: Mapping[str, str] = {
    "customer": _("Customer"),
    "contact": _("Contact"),
    "phone": _("Telephone"),
    "site": _("Site"),
    "address": _("Address"),
    "region": _("Region"),
    "altitude_m": _("Altitude (m)"),
    "serial": _("Serial number"),
    "type": _("Kind of machine"),
    "model": _("Model"),
    "name": _("Name"),
    "installed_on": _("Installed on"),
    "warranty_until": _("Warranty until"),
    "binding_convention": _("Convention"),
    "binding_topic": _("Foreign topic"),
    "binding_zone": _("Its time zone"),
    "login": _("User name"),
    "roles": _("Roles"),
    "skills": _("Skills"),
    "locale": _("Language"),
}
NOUNS: Mapping[str, str] = {
    "customer": _("Customers"),
    "site": _("Sites"),
    "machine": _("Machines"),
    "person": _("People"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a table may have: its English and Chinese names."""

    name: str
    label: str
    aliases: tuple[str, ...]
    needed: bool


@dataclass(frozen=True, slots=True)
class WrongLine:
    """One line that cannot be taken; ``column`` is a message id, '' for the whole line."""

    line: int
    column: str
    problem: Message


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file would do: noun's message id → new and changed; or what is wrong. ``content`` goes on to the import."""

    file: str
    rows: int
    counts: tuple[tuple[str, int, int], ...]
    errors: tuple[WrongLine, ...]
    more_errors: bool
    content: str


@dataclass(frozen=True, slots=True)
class ImportView:
    """The page of one kind of table."""

    key: str
    title: str
    after: str
    columns: tuple[Column, ...]
    most_rows: int
    problem: Message | None
    preview: Preview | None


@router.get("/import/{what}")
def start(page: Annotated[Page, require(Permission.LOGGED_IN)], what: str) -> Response:
    """What a table may hold, and where to choose the file."""
    return page.show("import/index.html", _view(_kind(page, what)))


@router.get("/import/{what}/example.csv")
def example(page: Annotated[Page, require(Permission.LOGGED_IN)], what: str) -> Response:
    """A table to begin with, as spreadsheets of this country open it: UTF-8 with a mark, Chinese column names."""
    kind = _kind(page, what)
    lines = [",".join(aliases[0] for aliases in kind.columns.values())]
    lines += [",".join(row.get(name, "") for name in kind.columns) for row in kind.example]
    return Response(
        ("\ufeff" + "\r\n".join(lines) + "\r\n").encode(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{kind.key}.csv"'},
    )


@router.post("/import/{what}")
def look(page: Annotated[Page, require(Permission.LOGGED_IN)], what: str, file: UploadFile | None = None) -> Response:
    """What the file would do; nothing is kept."""
    kind = _kind(page, what)
    try:
        raw = _uploaded(file)
        with page.command() as session:
            report = kind.run(session, page.actor, raw, page.now, dry_run=True)
    except RefusedError as error:
        return page.show("import/index.html", _view(kind, problem=Message.of(error)), status=status_of(error))
    preview = _preview(kind, report, raw, (file.filename or "") if file else "")
    return page.show("import/index.html", _view(kind, preview=preview), status=422 if report.errors else 200)


@router.post("/import/{what}/run")
def run(
    page: Annotated[Page, require(Permission.LOGGED_IN)],
    what: str,
    content: Annotated[str, FormField()] = "",
    name: Annotated[str, FormField()] = "",
) -> Response:
    """Takes over all of the table that was looked at, or nothing where something has changed meanwhile."""
    kind = _kind(page, what)
    try:
        raw = _unpacked(content)
        with page.command() as session:
            report = kind.run(session, page.actor, raw, page.now)
    except RefusedError as error:
        return page.show("import/index.html", _view(kind, problem=Message.of(error)), status=status_of(error))
    if report.errors:
        return page.show("import/index.html", _view(kind, preview=_preview(kind, report, raw, name)), status=422)
    done = Message(
        "Imported: {rows} rows, {created} new, {changed} changed",
        rows=report.rows, created=sum(report.created.values()), changed=sum(report.changed.values()),
    )  # fmt: skip
    return page.go(kind.after, done)


def _kind(page: Page, what: str) -> Kind:
    kind = KINDS.get(what)
    if kind is None or not page.user.may(kind.permission):
        raise NotFoundError("There is no such page")
    return kind


def _uploaded(file: UploadFile | None) -> bytes:
    raw = file.file.read(MOST_BYTES + 1) if file is not None else b""
    if not raw:
        raise InvalidError("Please choose a file that is not empty", field="file")
    if len(raw) > MOST_BYTES:
        raise InvalidError("The file is larger than {size} MB; split it", field="file", size=MOST_BYTES // 1024**2)
    return raw


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def _unpacked(content: str) -> bytes:
    """The file as it was looked at, which went through the browser."""
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(content, validate=True), MOST_BYTES + 1)
    except (binascii.Error, ValueError, zlib.error):
        raw = b""
    if not raw or len(raw) > MOST_BYTES:
        raise InvalidError("The file has been lost on the way; choose it again")
    return raw


def _preview(kind: Kind, report: Report, raw: bytes, name: str) -> Preview:
    nouns = [noun for noun in NOUNS if noun in report.created or noun in report.changed]
    return Preview(
        file="".join(c for c in name if c.isprintable())[:100],
        rows=report.rows,
        counts=tuple((NOUNS[noun], report.created.get(noun, 0), report.changed.get(noun, 0)) for noun in nouns),
        errors=tuple(_line(kind, error) for error in report.errors),
        more_errors=len(report.errors) >= csv_import.MOST_ERRORS,
        content="" if report.errors else _packed(raw),
    )


def _line(kind: Kind, error: LineError) -> WrongLine:
    return WrongLine(error.line, _label(kind, error.column), Message.of(error.error))


def _label(kind: Kind, column: str) -> str:
    if column == "name" and kind.key == "equipment":
        return _("Name on site")  # a machine's; a person's is another word in some languages
    return COLUMN_LABELS.get(column, column)


def _view(kind: Kind, *, problem: Message | None = None, preview: Preview | None = None) -> ImportView:
    columns = tuple(
        Column(name, _label(kind, name), aliases, name in kind.needs) for name, aliases in kind.columns.items()
    )
    return ImportView(kind.key, kind.title, kind.after, columns, csv_import.MOST_ROWS, problem, preview)
