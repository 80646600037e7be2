"""Customers, sites, machines and people from spreadsheets: all of a file or nothing, with what is wrong line by line.

UTF-8 (with or without a mark) and GB18030; comma, semicolon or tab; column names in Chinese or English. A row that is there
already is brought up to date; an empty cell leaves alone what it would set.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from domain.desk import registry
from domain.desk.actor import Actor
from domain.errors import InvalidError, RefusedError
from domain.store.queries import registry as query
from domain.store.tables import Base, Customer, Person, Site

MOST_ROWS = 1000
"""One file is one transaction: more would keep the gateway waiting for the database longer than 5 s."""
MOST_ERRORS = 200

EQUIPMENT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "customer": ("客户", "客户名称", "单位"),
    "contact": ("联系人",),
    "phone": ("电话", "联系电话", "手机", "手机号"),
    "site": ("门店", "网点", "安装地点", "地点"),
    "address": ("地址", "详细地址"),
    "region": ("区域", "片区", "地区"),
    "altitude_m": ("海拔", "海拔(m)", "海拔（米）"),
    "serial": ("序列号", "机号", "设备编号"),
    "type": ("类型", "设备类型"),
    "model": ("型号", "设备型号"),
    "name": ("名称", "设备名称"),
    "installed_on": ("安装日期",),
    "warranty_until": ("保修至", "保修期至", "质保到期"),
    "binding_convention": ("协议",),
    "binding_topic": ("主题",),
    "binding_zone": ("时区",),
}
"""English name → Chinese names of a column."""
EQUIPMENT_NEEDS = ("customer", "site", "serial", "type", "model")
PEOPLE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "login": ("登录名", "账号", "用户名"),
    "name": ("姓名", "名字"),
    "phone": ("电话", "手机", "手机号", "联系电话"),
    "roles": ("角色", "岗位"),
    "skills": ("技能", "设备类型"),
    "region": ("区域", "片区", "地区"),
    "locale": ("语言",),
}
PEOPLE_NEEDS = ("login", "name", "roles")

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong in one line (the header is line 1); ``column`` is the English name, empty for the whole line."""

    line: int
    column: str
    error: RefusedError


@dataclass(frozen=True, slots=True)
class Report:
    """What a file brought, or would bring: rows read, what was new and what was changed (noun → count), or the errors."""

    rows: int
    created: Mapping[str, int]
    changed: Mapping[str, int]
    errors: tuple[LineError, ...]


def import_equipment(session: Session, actor: Actor, raw: bytes, now: datetime, *, dry_run: bool = False) -> Report:
    """Machines with their sites and customers, one machine a row; nothing is kept of a file with errors, or of a dry run.

    A customer is found by name (by telephone number where several have it), a site by its name at the customer.
    """

    def take(row: Row, tally: _Tally) -> None:
        owner = _customer(session, row)
        form = {"name": row["customer"], **_given(row, "contact", "phone")}
        customer = tally.saved("customer", owner, lambda: registry.save_customer(session, actor, form, now, _id(owner)))
        place = query.site_by_name(session, customer.id, row["site"])
        where = {"name": row["site"], "customer_id": str(customer.id), **_given(row, "address", "region", "altitude_m")}
        site = tally.saved("site", place, lambda: registry.save_site(session, actor, where, now, _id(place)))
        known = query.machine_or_none(session, row["serial"])
        what = {"site_id": str(site.id), **_given(row, *registry.MACHINE_FIELDS)}
        serial = known.serial if known else None
        tally.saved("machine", known, lambda: registry.save_machine(session, actor, what, now, serial))

    return _import(session, raw, EQUIPMENT_COLUMNS, EQUIPMENT_NEEDS, take, dry_run=dry_run)


def import_people(session: Session, actor: Actor, raw: bytes, now: datetime, *, dry_run: bool = False) -> Report:
    """People, one a row, without passwords; nothing is kept of a file with errors, or of a dry run."""

    def take(row: Row, tally: _Tally) -> None:
        known = query.person_by_login(session, row["login"].lower())
        form = _given(row, *PEOPLE_COLUMNS)
        tally.saved("person", known, lambda: registry.save_person(session, actor, form, now, _id(known)))

    return _import(session, raw, PEOPLE_COLUMNS, PEOPLE_NEEDS, take, dry_run=dry_run)


def _customer(session: Session, row: Row) -> Customer | None:
    named = query.customers_named(session, row["customer"])
    if len(named) < 2:
        return named[0] if named else None
    phone = registry.CUSTOMER_FIELDS["phone"]("phone", row.get("phone", ""))
    fitting = [customer for customer in named if phone and customer.phone == phone]
    if len(fitting) != 1:
        raise InvalidError(
            "{count} customers have this name; give the telephone number", field="phone", count=len(named)
        )
    return fitting[0]


def _given(row: Row, *columns: str) -> dict[str, str]:
    return {column: row[column] for column in columns if row.get(column)}


def _id(row: Customer | Site | Person | None) -> int | None:
    return row.id if row else None


Saved = TypeVar("Saved", bound=Base)


class _Tally:
    """Counts what a file made and what it changed."""

    def __init__(self) -> None:
        self.created: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def saved(self, noun: str, before: Base | None, save: Callable[[], Saved]) -> Saved:
        """Save something that was ``before`` (None: was not there)."""
        was = _columns(before) if before is not None else None
        row = save()
        if was is None:
            self.created[noun] += 1
        elif was != _columns(row):
            self.changed[noun] += 1
        return row


def _columns(row: Base) -> dict[str, object]:
    return {name: getattr(row, name) for name in inspect(row).mapper.column_attrs.keys()}  # noqa: SIM118 — no dict


def _import(
    session: Session,
    raw: bytes,
    columns: Mapping[str, tuple[str, ...]],
    needs: tuple[str, ...],
    take: Callable[[Row, _Tally], None],
    *,
    dry_run: bool,
) -> Report:
    tally, errors, rows = _Tally(), list[LineError](), 0
    whole = session.begin_nested()
    try:
        for line, row in list(_rows(raw, columns, needs)):
            rows += 1
            missing = [LineError(line, name, InvalidError(EMPTY, field=name)) for name in needs if not row.get(name)]
            errors += missing or _taken(session, line, row, tally, take)
            if len(errors) >= MOST_ERRORS:
                break
    except InvalidError as error:
        errors.append(LineError(1, error.field or "", error))
    if errors or dry_run:
        whole.rollback()
    else:
        whole.commit()
    return Report(rows, dict(tally.created), dict(tally.changed), tuple(errors))


EMPTY = "Please fill in this field"


def _taken(
    session: Session, line: int, row: Row, tally: _Tally, take: Callable[[Row, _Tally], None]
) -> list[LineError]:
    try:
        with session.begin_nested():
            take(row, tally)
    except InvalidError as error:
        return [LineError(line, error.field or "", error)]
    except RefusedError as error:
        return [LineError(line, "", error)]
    except IntegrityError:
        return [LineError(line, "", InvalidError("This row contradicts another one"))]
    return []


def _rows(raw: bytes, columns: Mapping[str, tuple[str, ...]], needs: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    """(line, column → stripped text) of each row that is not empty. Raises InvalidError for a file that is no such table."""
    text = _decoded(raw)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = _header(next(reader, []), columns, needs)
    try:
        for count, cells in enumerate((row for row in reader if any(cell.strip() for cell in row)), start=1):
            if count > MOST_ROWS:
                raise InvalidError("The file has more than {count} rows; split it", count=MOST_ROWS)
            if any(cell.strip() for cell in cells[len(names) :]):
                raise InvalidError("Line {line} has more cells than the header", line=reader.line_num)
            yield reader.line_num, {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
    except csv.Error as error:
        raise InvalidError("The file is not a table: {problem}", problem=str(error)) from error


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise InvalidError("The file is neither UTF-8 nor GB18030 text; save it as CSV")


def _header(cells: list[str], columns: Mapping[str, tuple[str, ...]], needs: tuple[str, ...]) -> list[str]:
    known = {alias: name for name, aliases in columns.items() for alias in (name, *aliases)}
    names = []
    for cell in cells:
        name = known.get(cell.strip().lower(), known.get(cell.strip()))
        if name is None:
            raise InvalidError(
                "There is no column '{text}'; there are {known}", text=cell.strip(), known=", ".join(columns)
            )
        if name in names:
            raise InvalidError("The column {name} is there twice", field=name, name=name)
        names.append(name)
    for name in needs:
        if name not in names:
            raise InvalidError(
                "The column {name} ({chinese}) is missing", field=name, name=name, chinese=columns[name][0]
            )
    return names
