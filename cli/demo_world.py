"""The demo's world: 24 machines on 6 sites, the people who serve them, and small mishaps beside the story. Data and seeding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from cli.loop import FOUNDER
from device_sim.fleet import Fleet, MachineSpec
from device_sim.site import Site
from domain.clock import to_ms
from domain.desk import registry
from domain.desk.actor import actor_of
from domain.desk.intake import Call, open_from_call
from domain.desk.perform import perform
from domain.store.queries import registry as query
from domain.store.session import Sessions
from domain.store.tables import Person
from domain.tickets.states import Action, Kind, Role

SEED = 20260302
STORY_SERIAL = "SMM25-0001"
STORY_BATCH_S = 60.0
"""The story's machine starts a third of a batch one minute after the beginning."""
FAULT_AFTER = timedelta(minutes=4)


@dataclass(frozen=True, slots=True)
class Place:
    """A site with its customer and machines (model → how many). Telephone numbers are of no one."""

    customer: str
    contact: str
    phone: str
    name: str
    address: str
    region: str
    machines: Mapping[str, int]
    altitude_m: float = 20.0


PLACES: tuple[Place, ...] = (
    Place("永和晨点餐饮", "王桂兰", "13800010001", "永和晨点·国贸店", "北京市朝阳区光华路 9 号", "朝阳",
          {"SMM-25": 2, "SMM-60": 1, "FAU-300": 1}),
    Place("永和晨点餐饮", "王桂兰", "13800010001", "永和晨点·中关村店", "北京市海淀区中关村大街 27 号", "海淀",
          {"SMM-25": 2, "SMM-10": 1, "FAU-150": 1}),
    Place("北苑实验小学", "陈志远", "13800010002", "北苑实验小学食堂", "北京市朝阳区北苑路 86 号", "朝阳",
          {"SMM-60": 2, "FAU-800D": 2}),
    Place("豆香里早餐工坊", "赵敏", "13800010003", "豆香里·五道口店", "北京市海淀区成府路 28 号", "海淀",
          {"SMM-10": 2, "SMM-25": 1, "FAU-150": 1}),
    Place("安康社区医院", "刘海燕", "13800010004", "安康社区医院", "北京市丰台区方庄路 3 号", "丰台",
          {"FAU-300": 3, "FAU-800D": 1}),
    Place("清源写字楼物业", "孙立", "13800010005", "清源大厦", "北京市丰台区南三环西路 16 号", "丰台",
          {"FAU-800D": 2, "FAU-300": 1, "SMM-10": 1}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Employee:
    """Somebody who can log in."""

    login: str
    name: str
    roles: str
    skills: str = ""
    region: str = ""
    phone: str = ""


STAFF: tuple[Employee, ...] = (
    Employee("jiexian", "林晓", "operator"),
    Employee("diaodu", "周敏", "dispatcher"),
    Employee("zhang", "张建国", "technician", "soymilk freshair", "朝阳", "13900020001"),
    Employee("li", "李伟", "technician", "soymilk", "海淀", "13900020002"),
    Employee("wu", "吴晓东", "technician", "freshair", "丰台", "13900020003"),
    Employee("zhuguan", "何静", "manager"),
    Employee("peijian", "郑强", "parts_clerk"),
    Employee("zhijian", "苏婷", "qa"),
    Employee("admin", "系统管理员", "admin"),
)


@dataclass(frozen=True, slots=True)
class Mishap:
    """Something else that goes wrong, and perhaps is put right by the customer."""

    after: timedelta
    serial: str
    fault: str
    mended_after: timedelta | None = None


MISHAPS: tuple[Mishap, ...] = (
    Mishap(timedelta(minutes=12), "FAU300-0003", "fan_dead"),
    Mishap(timedelta(minutes=20), "SMM10-0004", "unplugged", timedelta(minutes=75)),
    Mishap(timedelta(minutes=25), "FAU150-0002", "filter_missing"),
)


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """A call that came before the demo begins, and how far it has got: (hours before the start, action, role, form)."""

    hours_ago: float
    serial: str
    kind: Kind
    words: str
    caller: str
    phone: str
    family: str = ""
    then: tuple[tuple[float, Action, str, Mapping[str, str]], ...] = ()


EARLIER: tuple[EarlierCall, ...] = (
    EarlierCall(
        25.5, "SMM60-0003", Kind.REPAIR, "打浆声音特别大，豆子打不碎", "陈志远", "13800010002", "motor",
        ((25.0, Action.VISIT_NEEDED, "jiexian", {}),),
    ),
    EarlierCall(
        21.5, "FAU800D-0003", Kind.REPAIR, "三楼会议室风很小，开到最大也没用", "刘海燕", "13800010004", "fan",
        (
            (21.0, Action.VISIT_NEEDED, "jiexian", {}),
            (20.5, Action.ASSIGN, "diaodu", {"assignee": "wu"}),
            (20.2, Action.ACCEPT, "wu", {}),
        ),
    ),
    EarlierCall(
        9.0, "FAU800D-0004", Kind.MAINTENANCE, "半年保养到期，请上门清洗", "孙立", "13800010005", "",
        ((8.5, Action.VISIT_NEEDED, "jiexian", {}),),
    ),
    EarlierCall(
        5.0, "SMM10-0003", Kind.REPAIR, "关着机还滴水，地上湿了一片", "赵敏", "13800010003", "water",
        (
            (4.8, Action.VISIT_NEEDED, "jiexian", {}),
            (4.5, Action.ASSIGN, "diaodu", {"assignee": "li"}),
            (4.4, Action.ACCEPT, "li", {}),
            (4.0, Action.LEAVE, "li", {}),
            (3.5, Action.ARRIVE, "li", {}),
            (3.0, Action.WAIT_FOR_PARTS, "li", {"part": "进水电磁阀", "promised_on": "tomorrow"}),
        ),
    ),
    EarlierCall(
        2.0, "SMM25-0004", Kind.REPAIR, "想问下保修外换加热管要多少钱", "王桂兰", "13800010001", "",
        ((1.5, Action.ASK_CONSENT, "jiexian", {"estimate": "480"}),),
    ),
)  # fmt: skip
"""So that the board of a newcomer is that of a working day: one overdue, one waiting for parts, one for consent."""


def machines() -> list[tuple[Place, MachineSpec]]:
    """All machines with their places, serials ``SMM25-0001`` and on, numbered per model."""
    numbers: dict[str, int] = {}
    found = []
    for place in PLACES:
        site = Site(name=place.name, altitude_m=place.altitude_m, pm25_median=110.0, seed=SEED)
        for model, count in place.machines.items():
            for _ in range(count):
                numbers[model] = numbers.get(model, 0) + 1
                serial = f"{model.replace('-', '')}-{numbers[model]:04d}"
                story = serial == STORY_SERIAL
                spec = MachineSpec(
                    serial=serial,
                    type="soymilk" if model.startswith("SMM") else "freshair",
                    model=model,
                    site=site,
                    batches=(STORY_BATCH_S,) if story else None,
                    batch_share=0.5 if story else 1.0,
                )
                found.append((place, spec))
    return found


def fleet(start: datetime) -> Fleet:
    """The demo's machines, alive from ``start`` on; the same seed gives the same demo."""
    return Fleet.build([spec for _, spec in machines()], seed=SEED, start_ms=to_ms(start))


def seed(sessions: Sessions, now: datetime, password_hash: str) -> None:
    """Register customers, sites, machines and people; everybody has the one password that was made for this demo."""
    with sessions.command() as session:
        customers: dict[str, int] = {}
        sites: dict[str, int] = {}
        for place, spec in machines():
            if place.customer not in customers:
                form = {"name": place.customer, "contact": place.contact, "phone": place.phone}
                customers[place.customer] = registry.save_customer(session, FOUNDER, form, now).id
            if place.name not in sites:
                form = {
                    "name": place.name, "address": place.address, "region": place.region, "demo": "1",
                    "altitude_m": str(place.altitude_m), "customer_id": str(customers[place.customer]),
                }  # fmt: skip
                sites[place.name] = registry.save_site(session, FOUNDER, form, now).id
            form = {
                "serial": spec.serial, "type": spec.type, "model": spec.model, "site_id": str(sites[place.name]),
                "installed_on": (now - timedelta(days=200)).date().isoformat(),
                "warranty_until": (now + timedelta(days=530)).date().isoformat(),
            }  # fmt: skip
            registry.save_machine(session, FOUNDER, form, now)
        for employee in STAFF:
            form = {
                "login": employee.login, "name": employee.name, "roles": employee.roles, "skills": employee.skills,
                "region": employee.region, "phone": employee.phone,
            }  # fmt: skip
            registry.save_person(session, FOUNDER, form, now, password_hash=password_hash)


def seed_earlier_calls(sessions: Sessions, start: datetime) -> None:
    """Let the earlier calls have happened, each step at its own time."""
    for call in EARLIER:
        with sessions.command() as session:
            at = start - timedelta(hours=call.hours_ago)
            operator = actor_of(_person(session, "jiexian"))
            said = Call(call.kind, call.words, call.caller, call.phone, serial=call.serial, family=call.family)
            ticket, _ = open_from_call(session, operator, said, at)
            for hours_ago, action, login, fields in call.then:
                at = start - timedelta(hours=hours_ago)
                form = dict(fields)
                if "assignee" in form:
                    form["assignee"] = str(_person(session, form["assignee"]).id)
                if "promised_on" in form:
                    form["promised_on"] = (start + timedelta(days=1)).date().isoformat()
                perform(session, actor_of(_person(session, login)), ticket.id, action, form, at)


def _person(session: Session, login: str) -> Person:
    person = query.person_by_login(session, login)
    assert person is not None, login
    return person


ROLE_LINES: tuple[tuple[Role, str, str], ...] = (
    (Role.DISPATCHER, "diaodu", "派工员 dispatcher"),
    (Role.TECHNICIAN, "zhang", "维修人员 technician (on a phone)"),
    (Role.OPERATOR, "jiexian", "接线员 operator"),
    (Role.MANAGER, "zhuguan", "服务主管 manager"),
    (Role.QA, "zhijian", "质检 QA"),
    (Role.ADMIN, "admin", "管理员 administrator"),
)
