"""Customers, sites, machines and people: validation, journal, quarantine, files."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from cli.main import main
from domain.desk import csv_import, registry
from domain.desk import strangers as desk_strangers
from domain.desk.actor import Actor
from domain.desk.csv_import import Report
from domain.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from domain.store import strangers
from domain.store.queries import registry as query
from domain.store.session import Sessions, open_engine
from domain.store.tables import Customer, Equipment, Journal, LoginSession, Person, Site, StrangerRow
from domain.tickets.states import Action, Role
from portal.auth import password_fits
from tests.desk_world import World

MACHINE = {"serial": "SMM-9", "type": "soymilk", "model": "SMM-25", "site_id": "1"}
PERSON = {"login": "zhang", "name": "张三", "roles": "technician", "skills": "soymilk"}


@pytest.fixture
def world() -> World:
    """Two sites, three machines, seven people."""
    return World()


def in_one(world: World, act: Callable[[Session], object]) -> object:
    """``act`` in a transaction of its own."""
    with world.command() as session:
        return act(session)


def refused(world: World, act: Callable[[Session], object]) -> str | None:
    """The field that ``act`` was refused for."""
    with pytest.raises(InvalidError) as caught:
        in_one(world, act)
    return caught.value.field


def told(world: World) -> list[Journal]:
    """The whole journal."""
    with world.read() as session:
        return list(session.scalars(select(Journal).order_by(Journal.id)))


def test_a_customer_is_created_and_changed_and_both_are_journalled_with_masked_phones(world: World) -> None:
    admin = world.actors["manager"]
    form = {"name": " 永和 ", "phone": "138 0013-9999"}
    row = in_one(world, lambda s: registry.save_customer(s, admin, form, world.now))
    assert isinstance(row, Customer)
    assert (row.name, row.phone) == ("永和", "13800139999")
    in_one(world, lambda s: registry.save_customer(s, admin, {"phone": "13700001111"}, world.now, row.id))
    in_one(world, lambda s: registry.save_customer(s, admin, {"phone": "13700001111"}, world.now, row.id))
    made, changed = told(world)
    assert (made.action, changed.action) == ("customer_created", "customer_changed")
    assert changed.detail["changes"] == {"phone": ["138****9999", "137****1111"]}
    assert changed.actor_name == "manager"
    assert "13800139999" not in str([row.detail for row in told(world)])


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("serial", "SMM 9"), ("serial", "豆浆机"), ("serial", ""), ("serial", "x" * 65), ("serial", "SMM-1"),
        ("type", "toaster"), ("model", "SMM-1000"), ("model", "FAU-300"), ("installed_on", "31.12.2025"),
        ("installed_on", "2025-02-30"), ("warranty_until", "2019-01-01"), ("site_id", "x"), ("site_id", "²"), ("site_id", "９"),
        ("binding_zone", "Mars/Olympus"),
        ("binding_convention", "Tasmota!"), ("binding_topic", "plug/+"), ("name", "x" * 201), ("name", "a\x00b"),
    ],
)  # fmt: skip
def test_a_machine_with_a_wrong_field_is_refused_by_that_field(world: World, field: str, text: str) -> None:
    form = {**MACHINE, "installed_on": "2020-01-01", field: text}
    if field == "binding_topic":
        form["binding_convention"] = "tasmota"
    assert refused(world, lambda s: registry.save_machine(s, world.actors["manager"], form, world.now)) == field
    with world.read() as session:
        assert query.machine_or_none(session, "SMM-9") is None


@pytest.mark.parametrize("who", ["operator", "manager"])
def test_only_an_administrator_decides_where_simulated_samples_count(world: World, who: str) -> None:
    actor, admin = world.actors[who], Actor("admin", frozenset((Role.ADMIN,)))
    new = {"name": "三店", "customer_id": "1"}

    def saved(by: Actor, form: dict[str, str], site_id: int | None = None) -> Site:
        with world.command() as session:
            return registry.save_site(session, by, form, world.now, site_id)

    for form, site_id in ((new | {"demo": "1"}, None), ({"demo": "1"}, 1)):
        with pytest.raises(ForbiddenError, match="administrator"):
            saved(actor, form, site_id)
    assert saved(actor, new | {"demo": "0"}).demo is False
    assert saved(actor, {"demo": "0", "name": "总店"}, 1).name == "总店"
    assert saved(admin, {"demo": "1"}, 2).demo is True
    assert told(world)[-1].detail["changes"] == {"demo": [False, True]}
    with pytest.raises(ForbiddenError, match="administrator"):
        saved(actor, {"demo": "0"}, 2)
    with pytest.raises(ForbiddenError, match="administrator"):
        in_one(world, lambda s: registry.save_machine(s, actor, {"site_id": "2"}, world.now, "SMM-1"))
    in_one(world, lambda s: registry.save_machine(s, admin, {"site_id": "2"}, world.now, "SMM-1"))


def test_the_altitude_of_a_site_stays_while_a_machine_there_is_measured(world: World) -> None:
    _, number = world.raised()
    world.at_the_machine(number)
    world.do("wang", Action.FINISH_REPAIR, number)
    manager = world.actors["manager"]

    def moved_to(altitude: str, site_id: int = 1) -> float:
        with world.command() as session:
            form = {"altitude_m": altitude, "region": "城南"}
            return registry.save_site(session, manager, form, world.now, site_id).altitude_m

    assert refused(world, lambda s: registry.save_site(s, manager, {"altitude_m": "9"}, world.now, 1)) == "altitude_m"
    assert (moved_to("0"), moved_to("9", site_id=2)) == (0.0, 9.0)
    world.tick(hours=25)
    assert moved_to("9") == 9.0
    assert told(world)[-1].detail["changes"] == {"altitude_m": [0.0, 9.0]}


def test_a_machine_keeps_its_serial_and_type_for_ever(world: World) -> None:
    admin = world.actors["manager"]
    in_one(world, lambda s: registry.save_machine(s, admin, MACHINE, world.now))
    for field, text in (("serial", "SMM-10"), ("type", "freshair")):
        assert (
            refused(world, lambda s, f=field, t=text: registry.save_machine(s, admin, {f: t}, world.now, "SMM-9"))
            == field
        )  # type: ignore[misc]
    row = in_one(world, lambda s: registry.save_machine(s, admin, {"name": "一号", "site_id": "2"}, world.now, "SMM-9"))
    assert isinstance(row, Equipment)
    assert (row.name, row.site_id, row.model) == ("一号", 2, "SMM-25")
    with pytest.raises(NotFoundError):
        in_one(world, lambda s: registry.save_machine(s, admin, {"site_id": "99"}, world.now, "SMM-9"))


def test_a_foreign_machine_needs_convention_and_topic_and_has_the_topic_alone(world: World) -> None:
    admin, bound = world.actors["manager"], {"binding_convention": "tasmota", "binding_topic": "plug-7"}
    assert (
        refused(world, lambda s: registry.save_machine(s, admin, MACHINE | {"binding_topic": "x"}, world.now))
        == "binding_topic"
    )
    in_one(world, lambda s: registry.save_machine(s, admin, MACHINE | bound, world.now))
    assert refused(world, lambda s: registry.save_machine(s, admin, bound, world.now, "SMM-1")) == "binding_topic"
    in_one(
        world, lambda s: registry.save_machine(s, admin, {**bound, "binding_zone": "Asia/Shanghai"}, world.now, "SMM-9")
    )


def stranger(name: str, convention: str = "", state: str = "waiting", at: datetime | None = None) -> StrangerRow:
    moment = at or datetime(2026, 11, 23, tzinfo=UTC)
    kind, _, serial = name.partition("/")
    native = {} if convention else {"type": kind, "serial": serial}
    return StrangerRow(
        convention=convention, name=name, state=state, first_heard_at=moment, last_heard_at=moment, heard=3, held=3, held_bytes=6,
        **native,
    )  # fmt: skip


def test_registering_a_machine_claims_who_was_waiting_and_is_it(world: World) -> None:
    with world.command() as session:
        session.add_all(
            [
                stranger("soymilk/SMM-9"), stranger("freshair/SMM-9"), stranger("soymilk/SMM-8"),
                stranger("plug-7", "tasmota"), stranger("plug_7", "tasmota"), stranger("plug-77", "tasmota"),
                stranger("plug-7", "shelly"), stranger("canteen/edge", "sparkplug"), stranger("canteen/edge/pot", "sparkplug"),
                stranger("canteen/ed", "sparkplug"), stranger("soymilk/SMM-10", state="admitted"),
                stranger("soymilk/SMM-11", state="dismissed"),
            ]
        )  # fmt: skip
    manager = world.actors["manager"]
    pot = {"binding_convention": "sparkplug", "binding_topic": "canteen/edge/pot"}
    for form in (
        MACHINE, MACHINE | {"serial": "SMM-10"}, MACHINE | {"serial": "SMM-11"}, MACHINE | {"serial": "SMM-12"} | pot,
    ):  # fmt: skip
        in_one(world, lambda s, form=form: registry.save_machine(s, manager, form, world.now))
    bound = {"binding_convention": "tasmota", "binding_topic": "plug-7"}
    in_one(world, lambda s: registry.save_machine(s, manager, bound, world.now, "SMM-9"))
    with world.read() as session:
        claimed = {
            (row.convention, row.name): row.machine for row in session.scalars(select(StrangerRow)) if row.machine
        }
        assert strangers.at_the_door(session) == {"SMM-9", "SMM-11", "SMM-12"}
    assert claimed == {
        ("", "soymilk/SMM-9"): "SMM-9", ("", "soymilk/SMM-11"): "SMM-11", ("tasmota", "plug-7"): "SMM-9",
        ("sparkplug", "canteen/edge"): "SMM-12", ("sparkplug", "canteen/edge/pot"): "SMM-12",
    }  # fmt: skip


def test_a_stranger_is_dismissed_once_and_it_is_written_down(world: World) -> None:
    with world.command() as session:
        session.add_all([stranger("soymilk/SMM-8"), stranger("soymilk/SMM-7", state="claimed")])
    admin = world.actors["manager"]
    with world.command() as session:
        assert desk_strangers.dismiss(session, admin, 1, world.now) == 3
    for number, wrong in ((1, ConflictError), (2, ConflictError), (99, NotFoundError)):
        with pytest.raises(wrong), world.command() as session:
            desk_strangers.dismiss(session, admin, number, world.now)
    with world.read() as session:
        row = session.get(StrangerRow, 1)
        assert row is not None
        assert (row.state, row.held, row.held_bytes, row.dismissed) == ("dismissed", 0, 0, 3)
        (said,) = [one for one in session.scalars(select(Journal)) if one.action == "stranger_dismissed"]
        assert (said.serial, said.detail) == ("SMM-8", {"convention": "", "name": "soymilk/SMM-8", "messages": 3})


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("login", "Zhang San"), ("login", "x"), ("login", "wang"), ("login", "WANG"), ("name", " "), ("roles", "king"),
        ("roles", ""), ("roles", "system"), ("roles", "customer"), ("skills", "toaster"), ("skills", ""),
        ("phone", "call me"), ("locale", "fr"),
    ],
)  # fmt: skip
def test_a_person_with_a_wrong_field_is_refused_by_that_field(world: World, field: str, text: str) -> None:
    form = {**PERSON, field: text}
    assert refused(world, lambda s: registry.save_person(s, world.actors["manager"], form, world.now)) == field


def test_a_new_password_ends_the_log_ins_and_is_never_written_down(world: World) -> None:
    row = in_one(
        world, lambda s: registry.save_person(s, world.actors["manager"], PERSON, world.now, password_hash="$h1")
    )
    assert isinstance(row, Person)
    assert row.skills == ["soymilk"]

    def log_in(session: Session) -> None:
        session.add(
            LoginSession(
                token_hash="t", person_id=row.id, csrf="c", created_at=world.now, seen_at=world.now,
                expires_at=world.now + timedelta(days=1),
            )
        )  # fmt: skip

    in_one(world, log_in)
    in_one(world, lambda s: registry.save_person(s, world.actors["manager"], {"name": "张三三"}, world.now, row.id))
    with world.read() as session:
        assert session.get(LoginSession, "t") is not None
    in_one(
        world, lambda s: registry.save_person(s, world.actors["manager"], {}, world.now, row.id, password_hash="$h2")
    )
    with world.read() as session:
        assert session.get(LoginSession, "t") is None
        assert session.get_one(Person, row.id).password_hash == "$h2"
    assert "$h" not in str([(row.detail, row.reason) for row in told(world)])


def test_the_last_administrator_stays(world: World) -> None:
    shell = world.actors["manager"]
    first = in_one(world, lambda s: registry.save_person(s, shell, PERSON | {"roles": "admin"}, world.now))
    assert isinstance(first, Person)
    assert refused(world, lambda s: registry.set_active(s, shell, first.id, False, world.now)) == "roles"
    form = {"roles": "operator"}
    assert refused(world, lambda s: registry.save_person(s, shell, form, world.now, first.id)) == "roles"
    second = {**PERSON, "login": "second", "roles": "admin manager"}
    in_one(world, lambda s: registry.save_person(s, shell, second, world.now))
    in_one(world, lambda s: registry.set_active(s, shell, first.id, False, world.now))
    with world.read() as session:
        assert [p.login for p in query.people(session, role="admin", active_only=True)] == ["second"]


def test_nobody_with_open_tickets_is_switched_off(world: World) -> None:
    _, number = world.raised()
    world.do("operator", Action.VISIT_NEEDED, number)
    world.do("dispatcher", Action.ASSIGN, number)
    wang = world.actors["wang"].person_id or 0
    with pytest.raises(InvalidError, match="1 open tickets"):
        in_one(world, lambda s: registry.set_active(s, world.actors["manager"], wang, False, world.now))
    world.do("wang", Action.DECLINE, number)
    in_one(world, lambda s: registry.set_active(s, world.actors["manager"], wang, False, world.now))
    assert [row.action for row in told(world)][-1] == "person_deactivated"
    with pytest.raises(InvalidError, match="not a technician on duty"):
        world.do("dispatcher", Action.ASSIGN, number)


@pytest.mark.parametrize(
    ("phone", "masked"),
    [
        ("13800138000", "138****8000"),
        ("+8613800138000", "+86****8000"),
        ("88001234", "******34"),
        ("", ""),
        ("12", "12"),
    ],
)
def test_masking(phone: str, masked: str) -> None:
    assert registry.mask_phone(phone) == masked


def test_whoever_looks_at_a_telephone_number_is_journalled(world: World) -> None:
    phone = in_one(world, lambda s: registry.unmask_phone(s, world.actors["operator"], "customer", 1, world.now))
    assert phone == "13800138000"
    (row,) = told(world)
    assert (row.action, row.actor_name) == ("phone_unmasked", "operator")
    assert row.detail == {"kind": "customer", "id": 1, "phone": "138****8000"}
    for kind, number in (("secret", 1), ("person", 99), ("ticket", 99), ("customer", 99)):
        with pytest.raises(NotFoundError):
            in_one(
                world, lambda s, k=kind, n=number: registry.unmask_phone(s, world.actors["operator"], k, n, world.now)
            )  # type: ignore[misc]


CHINESE = "客户,联系人,电话,门店,地址,区域,海拔,序列号,类型,型号,名称,安装日期,保修至\n"
ROW = "永和,孙经理,139 1234 5678,人民路店,人民路1号,城东,12,SMM-77,豆浆机,SMM-60,一号机,2025/3/1,2026年3月1日\n"
ENGLISH = "customer;site;serial;type;model\n永和;人民路店;FAU-77;freshair;FAU-300\n永和;新店;FAU-78;新风机;FAU-150\n"


def imported(world: World, raw: bytes, *, dry_run: bool = False) -> Report:
    """The report of a file of machines."""
    with world.command() as session:
        return csv_import.import_equipment(session, world.actors["manager"], raw, world.now, dry_run=dry_run)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_file_in_chinese_brings_customer_site_and_machine(world: World, encoding: str) -> None:
    report = imported(world, (CHINESE + ROW).encode(encoding))
    assert (report.rows, report.created, report.changed, report.errors) == (
        1, {"customer": 1, "site": 1, "machine": 1}, {}, ()
    )  # fmt: skip
    with world.read() as session:
        machine = query.machine(session, "SMM-77")
        assert (machine.type, machine.model, machine.name) == ("soymilk", "SMM-60", "一号机")
        assert (machine.installed_on, machine.warranty_until) == (date(2025, 3, 1), date(2026, 3, 1))
        assert (machine.site.name, machine.site.region, machine.site.altitude_m) == ("人民路店", "城东", 12.0)
        assert (machine.site.customer.name, machine.site.customer.phone) == ("永和", "13912345678")


def test_the_same_file_again_changes_nothing_and_a_newer_one_what_it_names(world: World) -> None:
    imported(world, (CHINESE + ROW).encode())
    before = len(told(world))
    again = imported(world, (CHINESE + ROW).encode())
    assert (again.created, again.changed) == ({}, {})
    assert len(told(world)) == before
    newer = imported(world, (CHINESE + ROW.replace("一号机", "大厅机").replace("孙经理", "")).encode())
    assert (newer.created, newer.changed) == ({}, {"machine": 1})
    more = imported(world, ENGLISH.encode())
    assert (more.created, more.changed) == ({"machine": 2, "site": 1}, {})
    with world.read() as session:
        assert query.customers_named(session, "永和")[0].contact == "孙经理"


def test_a_dry_run_says_the_same_and_keeps_nothing(world: World) -> None:
    dry = imported(world, ENGLISH.encode(), dry_run=True)
    with world.read() as session:
        assert query.customers_named(session, "永和") == []
        assert len(session.scalars(select(Site)).all()) == 2
    assert told(world) == []
    assert dry == imported(world, ENGLISH.encode())


def test_a_file_with_errors_keeps_nothing_and_names_each_line(world: World) -> None:
    rows = [
        "永和,人民路店,SMM-77,soymilk,SMM-60", "永和,人民路店,SMM 78,soymilk,SMM-60", "", "永和,人民路店,SMM-79,soymilk,FAU-300",
        ",人民路店,SMM-80,soymilk,SMM-60", "豆香园,一店,SMM-1,freshair,FAU-300", "永和,人民路店,SMM-81,soymilk,SMM-60",
    ]  # fmt: skip
    report = imported(world, "\n".join(["customer,site,serial,type,model", *rows]).encode())
    assert [(wrong.line, wrong.column) for wrong in report.errors] == [
        (3, "serial"), (5, "model"), (6, "customer"), (7, "type"),
    ]  # fmt: skip
    assert all(str(wrong.error) for wrong in report.errors)
    with world.read() as session:
        assert query.machine_or_none(session, "SMM-77") is None
        assert query.customers_named(session, "永和") == []
    assert told(world) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "customer"), ("customer,site,serial,type\n", "model"), ("customer,site,serial,type,model,colour\n", "colour"),
        ("客户,customer,site,serial,type,model\n", "twice"), ("customer,site,serial,type,model\na,b,c,d,e,f\n", "more cells"),
        ("customer,site,serial,type,model\n" + "a,b,S-{},soymilk,SMM-10\n" * 1001, "more than 1000 rows"), ("\0\1\2", "text"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused_in_one_line(world: World, text: str, says: str) -> None:
    report = imported(world, "".join(part + str(n) for n, part in enumerate(text.split("{}"))).encode())
    assert any(says in str(wrong.error) for wrong in report.errors), report.errors[:3]
    assert told(world) == []


def test_a_picture_is_no_table(world: World) -> None:
    assert imported(world, b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256))).errors


def test_customers_of_one_name_are_told_apart_by_their_telephone_number(world: World) -> None:
    for phone in ("13900000001", "13900000002"):
        form = {"name": "永和", "phone": phone}
        in_one(world, lambda s, f=form: registry.save_customer(s, world.actors["manager"], f, world.now))  # type: ignore[misc]
    head = "customer,phone,site,serial,type,model\n"
    assert imported(world, (head + "永和,,店,SMM-77,soymilk,SMM-10\n").encode()).errors[0].column == "phone"
    assert imported(world, (head + "永和,139 0000 0002,店,SMM-77,soymilk,SMM-10\n").encode()).errors == ()
    with world.read() as session:
        assert query.machine(session, "SMM-77").site.customer.phone == "13900000002"


def test_people_come_from_a_file_too(world: World) -> None:
    raw = "登录名,姓名,手机,角色,技能,区域\nZhang,张三,13800000000,维修人员、调度,豆浆机 新风机,城东\n"
    raw += "wang,王五,,technician,soymilk,\n"
    with world.command() as session:
        report = csv_import.import_people(session, world.actors["manager"], raw.encode("gb18030"), world.now)
    assert (report.created, report.changed, report.errors) == ({"person": 1}, {"person": 1}, ())
    with world.read() as session:
        person = query.person_by_login(session, "zhang")
        assert person is not None
        assert (person.roles, person.skills, person.active) == (
            ["dispatcher", "technician"],
            ["freshair", "soymilk"],
            True,
        )
        assert person.password_hash == ""
        wang = query.person_by_login(session, "wang")
        assert wang is not None
        assert (wang.name, wang.region) == ("王五", "城东")


# ------------------------------------------------------------------------------------------------------- command line


Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """``brewair …`` on a data folder of its own: exit status, what it said, what it complained of."""
    monkeypatch.setattr(os, "environ", {**os.environ, "BREWAIR_DATA_DIR": str(tmp_path / "data")})

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            main(list(arguments))
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_first_administrator_is_made_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hot soy milk 热豆浆\n")
    create = ("admin", "create", "--login", "root", "--name", "管理员", "--password-file", str(secret))
    assert shell(*create) == (0, "created root (admin)\n", "")
    status, _, complaint = shell(*create)
    assert (status, complaint) == (2, "brewair: login: There is somebody with the log-in name root already\n")
    assert shell("admin", "people")[1] == "root\t管理员\tadmin\n"
    with Sessions(open_engine(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")).read() as session:
        person = query.person_by_login(session, "root")
        assert person is not None
        assert password_fits(person.password_hash, "hot soy milk 热豆浆")
    secret.write_text("another password")
    assert shell("admin", "reset-password", "--login", "root", "--password-file", str(secret))[0] == 0
    with Sessions(open_engine(f"sqlite:///{tmp_path / 'data' / 'brewair.db'}")).read() as session:
        person = query.person_by_login(session, "root")
        assert person is not None
        assert password_fits(person.password_hash, "another password")


def test_a_weak_or_missing_password_is_refused(shell: Shell, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("short")
    create = ("admin", "create", "--login", "root", "--name", "管理员")
    for extra, says in (
        (("--password-file", str(secret)), "at least 10"),
        (("--password-file", str(tmp_path / "none")), "Cannot read"),
        ((), "--password-file"),
    ):
        status, _, complaint = shell(*create, *extra)
        assert status == 2
        assert says in complaint
    assert shell("admin", "reset-password", "--login", "nobody")[0] == 2
    assert shell("admin", "people")[1] == ""


def test_files_are_imported_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "machines.csv"
    file.write_bytes((CHINESE + ROW).encode("gb18030"))
    status, said, _ = shell("admin", "import-equipment", str(file), "--dry-run")
    assert (status, said) == (
        0, "customer: 1 would be created, 0 would be changed\nsite: 1 would be created, 0 would be changed\n"
        "machine: 1 would be created, 0 would be changed\n1 rows\n",
    )  # fmt: skip
    assert "machine: 1 created, 0 changed" in shell("admin", "import-equipment", str(file))[1]
    file.write_text("customer,site,serial,type,model\na,b,c d,soymilk,SMM-10\n")
    status, said, complaint = shell("admin", "import-equipment", str(file))
    assert (status, said) == (1, "")
    assert "line 2, serial: 'c d' is not a serial number" in complaint
    assert "nothing was imported" in complaint
    assert shell("admin", "import-equipment", str(tmp_path / "none.csv"))[0] == 2
