"""A service organisation with its portal, in which everything happens through the desk: for the tests of the service pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy.orm import Session

from domain.clock import ManualClock, to_ms
from domain.desk import watch
from domain.desk.actor import Actor
from domain.desk.intake import Call, open_from_call, record_findings
from domain.desk.perform import perform
from domain.desk.verification import append_samples
from domain.findings import Finding, Kind, Severity
from domain.readings import Reading
from domain.settings import Settings, load
from domain.store import schema
from domain.store.queries import tickets as query
from domain.store.session import Sessions
from domain.store.tables import Customer, Equipment, EquipmentStatus, Person, Site, TestRun, Ticket
from domain.telemetry.sqlite import SqliteTelemetry
from domain.tickets.states import Action, Role
from domain.tickets.states import Kind as TicketKind
from portal.app import create_app
from tests.desk_world import moved
from tests.portal_site import FakeWall, Template, password_hash, quick_engine, template
from tests.unit.verification.traces import changed, freshair, readings, soymilk

NOW = datetime(2026, 3, 10, 1, 30, tzinfo=UTC)
"""Half past nine in Shanghai."""
PEOPLE: tuple[tuple[str, str, tuple[Role, ...], tuple[str, ...], str], ...] = (
    ("operator", "周晓兰", (Role.OPERATOR,), (), "华东"),
    ("dispatcher", "陈立", (Role.DISPATCHER,), (), "华东"),
    ("limin", "李敏", (Role.TECHNICIAN,), ("soymilk", "freshair"), "浦东"),
    ("zhaolei", "赵磊", (Role.TECHNICIAN,), ("soymilk",), "浦东"),
    ("sunhao", "孙浩", (Role.TECHNICIAN,), ("soymilk", "freshair"), "闵行"),
    ("liuyang", "刘洋", (Role.TECHNICIAN,), ("freshair",), "徐汇"),
    ("clerk", "吴桂芳", (Role.PARTS_CLERK,), (), "华东"),
    ("follow_up", "郑洁", (Role.FOLLOW_UP,), (), "华东"),
    ("manager", "王建国", (Role.MANAGER,), (), "华东"),
    ("dealer", "华东经销", (Role.DEALER,), (), "华东"),
    ("qa", "赵工", (Role.QA,), (), ""),
    ("admin", "系统管理员", (Role.ADMIN,), (), ""),
)
SITES = (
    ("永和豆浆", "孙经理", "13912345678", "永和豆浆·世纪大道店", "浦东", "世纪大道 1128 号 1 楼"),
    ("永和豆浆", "孙经理", "13912345678", "永和豆浆·七宝店", "闵行", "七莘路 3655 号"),
    ("浦东教育后勤", "钱老师", "13601771234", "实验小学食堂", "浦东", "灵山路 1800 号后门进，二楼厨房"),
    ("滨江物业", "沈工", "13817654321", "滨江写字楼 A 座", "徐汇", "龙腾大道 2350 号"),
    ("瑞和医院", "顾主任", "13501689900", "瑞和医院门诊楼", "徐汇", "宛平南路 600 号 3 楼"),
    ("早安餐饮", "马老板", "15021223344", "早安中央厨房", "闵行", "虹梅路 2007 号 5 号楼"),
)
MACHINES = (
    ("SM-2041", "soymilk", "SMM-10", "1 号豆浆机", 0), ("SM-2042", "soymilk", "SMM-10", "2 号豆浆机", 0),
    ("SM-2107", "soymilk", "SMM-10", "早餐档口豆浆机", 1), ("SM-2230", "soymilk", "SMM-25", "食堂磨煮机", 2),
    ("SM-2231", "soymilk", "SMM-60", "食堂大磨煮机", 2), ("SM-2350", "soymilk", "SMM-60", "A 线磨煮机", 5),
    ("SM-2351", "soymilk", "SMM-60", "B 线磨煮机", 5), ("FA-0101", "freshair", "FAU-300", "三楼会议室新风", 3),
    ("FA-0102", "freshair", "FAU-800D", "大堂新风", 3), ("FA-0140", "freshair", "FAU-300", "候诊区新风", 4),
    ("FA-0141", "freshair", "FAU-150", "儿科诊室新风", 4), ("FA-0142", "freshair", "FAU-150", "输液室新风", 4),
)  # fmt: skip
FORM = {
    "soymilk": {"fault": "S-T2", "cause": "element_open", "measure": "replace_element"},
    "freshair": {"fault": "A-T1", "cause": "fan_motor", "measure": "replace_fan"},
}


def healthy() -> list[Reading]:
    """A whole test batch of a healthy 10 L machine: about 19 minutes active, then a rest."""
    return readings(soymilk(), seq=True)


def one_element_lost() -> list[Reading]:
    """The same batch on two thirds of the heating power."""
    return readings(
        changed(soymilk(), lambda r: r["heater_on"] is True, power_w=lambda r: 0.67 * float(r["power_w"])), seq=True
    )


@dataclass
class ServiceSite:
    """The organisation; each method that acts is one transaction at the clock's time."""

    app: FastAPI
    settings: Settings
    sessions: Sessions
    clock: ManualClock
    telemetry: SqliteTelemetry
    people: dict[str, int] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    boots: int = 0

    @property
    def now(self) -> datetime:
        """The time of business."""
        return self.clock.now()

    def advance(self, **span: float) -> None:
        """Time passes, and with it what time brings about."""
        self.clock.advance(timedelta(**span))
        for watched in watch.WATCHES:
            with self.sessions.command() as session:
                watched(session, self.now)

    def finding(
        self,
        serial: str,
        rule: str,
        family: str,
        cause: str,
        severity: int = 2,
        kind: Kind = Kind.REAL,
        **evidence: float,
    ) -> int:
        """A rule fires now; the number of the ticket that it opened or joined."""
        finding = Finding(
            rule, family, Severity(severity), serial, to_ms(self.now), kind, cause=cause, evidence=evidence
        )
        with self.sessions.command() as session:
            record_findings(session, [finding], self.now)
            row = query.finding_by_key(session, finding.episode_key)
            assert row is not None
            assert row.ticket_id is not None
            return row.ticket_id

    def call(self, serial: str, words: str, family: str = "", kind: TicketKind = TicketKind.REPAIR) -> int:
        """A customer calls."""
        call = Call(kind, words, "马老板", "15021223344", serial=serial, family=family)
        with self.sessions.command() as session:
            return open_from_call(session, self.actors["operator"], call, self.now)[0].id

    def do(self, who: str, action: Action, ticket_id: int, **form: str) -> Ticket:
        """Somebody takes an action; codes and reasons are filled in unless given."""
        with self.sessions.command() as session:
            ticket = query.ticket(session, ticket_id)
            codes = FORM[ticket.equipment.type] if ticket.equipment else {}
            return perform(session, self.actors[who], ticket_id, action, {"reason": "因为", **codes, **form}, self.now)

    def to(self, who: str, ticket_id: int, *actions: Action) -> None:
        """The dispatcher gives the ticket to a technician, who takes these actions, ten minutes apart."""
        if self.ticket(ticket_id).state in ("reported", "guided"):
            self.do("dispatcher", Action.VISIT_NEEDED, ticket_id)
        self.do("dispatcher", Action.ASSIGN, ticket_id, assignee=str(self.people[who]))
        for action in actions:
            self.advance(minutes=10)
            self.do(who, action, ticket_id)

    def measure(self, ticket_id: int, trace: Sequence[Reading], *, seconds: float | None = None) -> None:
        """The machine of a ticket runs this trace (its first ``seconds``) from now on; a tick each minute."""
        serial = self.ticket(ticket_id).serial or ""
        self.boots += 1
        sent = [
            Reading(serial, r.type, r.ts, r.values, boot=f"b{self.boots}", seq=r.seq, recv_ms=r.recv_ms)
            for r in moved(trace, serial, self.now + timedelta(seconds=5))
        ]
        last = to_ms(self.now) + (seconds or 1e6) * 1000
        sent = [reading for reading in sent if reading.ts <= last]
        for start in range(0, len(sent), 12):
            batch = sent[start : start + 12]
            self.clock.advance(timedelta(milliseconds=max(0, batch[-1].ts - to_ms(self.now))))
            self.telemetry.write(batch)
            with self.sessions.command() as session:
                append_samples(session, batch, self.now)
                self._seen(session, batch[-1])
            self.advance()
        if seconds is None:
            self.advance(seconds=20)

    def _seen(self, session: Session, reading: Reading) -> None:
        row = session.get(EquipmentStatus, reading.serial)
        if row is None:
            row = EquipmentStatus(serial=reading.serial, latest={}, run_state="", fw="1.4.2", simulated=False)
            session.add(row)
        row.last_seen_at, row.last_ts_ms, row.online = self.now, reading.ts, True
        row.run_state, row.latest = str(reading.values.get("run_state", "")), dict(reading.values)

    def ticket(self, ticket_id: int) -> Ticket:
        """The ticket as it stands."""
        with self.sessions.read() as session:
            return query.ticket(session, ticket_id)

    def runs(self, ticket_id: int) -> list[TestRun]:
        """Its test runs, the latest first."""
        with self.sessions.read() as session:
            return query.runs(session, ticket_id)


@cache
def _seeded() -> Template:
    return template(schema.upgrade, _seed)


def build(folder: Path, **settings: str) -> ServiceSite:
    """A fresh portal on SQLite in ``folder``, with people and machines and no ticket."""
    environment = {"BREWAIR_DATA_DIR": str(folder), **{f"BREWAIR_{k.upper()}": v for k, v in settings.items()}}
    loaded, seeded = load(environment), _seeded()
    seeded.copy(loaded.database_url, folder / "telemetry.db")
    sessions, clock = Sessions(quick_engine(loaded.database_url)), ManualClock(NOW)
    telemetry = SqliteTelemetry(folder / "telemetry.db")
    app = create_app(loaded, clock, sessions, telemetry, wall=FakeWall())
    site = ServiceSite(app, loaded, sessions, clock, telemetry)
    site.people.update(seeded.people)
    site.actors.update(
        {login: Actor(name, frozenset(roles), site.people[login]) for login, name, roles, *_rest in PEOPLE}
    )
    return site


def _seed(session: Session) -> dict[str, int]:
    people: dict[str, int] = {}
    for login, name, roles, skills, region in PEOPLE:
        person = Person(
            login=login, name=name, phone="13800001234", roles=[role.value for role in roles], region=region,
            skills=list(skills), password_hash=password_hash(), active=True, created_at=NOW,
        )  # fmt: skip
        session.add(person)
        session.flush()
        people[login] = person.id
    customers: dict[str, Customer] = {}
    places = []
    for owner, contact, phone, name, region, address in SITES:
        customer = customers.setdefault(owner, Customer(name=owner, contact=contact, phone=phone, created_at=NOW))
        session.add(customer)
        session.flush()
        place = Site(customer_id=customer.id, name=name, region=region, address=address, created_at=NOW)
        session.add(place)
        places.append(place)
    session.flush()
    for serial, kind, model, name, at in MACHINES:
        session.add(
            Equipment(
                serial=serial, type=kind, model=model, name=name, site_id=places[at].id, created_at=NOW,
                installed_on=date(2025, 4, 1), warranty_until=date(2027, 3, 31),
            )
        )  # fmt: skip
    return people


def idle(site: ServiceSite, serial: str) -> None:
    """An hour of ordinary operation in the telemetry store, up to now."""
    kind = next(row[1] for row in MACHINES if row[0] == serial)
    rows = soymilk() if kind == "soymilk" else freshair(3600)
    trace = moved(readings(rows), serial, site.now)
    shift = to_ms(site.now) - trace[-1].ts
    site.telemetry.write([Reading(serial, kind, r.ts + shift, r.values) for r in trace])


@dataclass(frozen=True)
class Story:
    """Tickets by what they show."""

    testing: int
    failed_once: int
    passed: int
    offered: int
    accepted: int
    repairing: int
    ready: int
    called: int
    guided: int
    waiting: int
    closed: int


def a_morning(site: ServiceSite) -> Story:
    """A morning with something of everything; ends while a test run is being measured."""
    heat = {"pn": 1480.0, "heat_ref_w": 2190.0}
    closed = site.finding("SM-2042", "R03", "heating", "element_lost", **heat)
    site.to("zhaolei", closed, Action.ACCEPT, Action.LEAVE, Action.ARRIVE, Action.FINISH_REPAIR)
    site.measure(closed, healthy())
    site.do("zhaolei", Action.CLOSE, closed)
    passed = site.finding("SM-2107", "R03", "heating", "weak", 3, **heat)
    site.to("sunhao", passed, Action.ACCEPT, Action.LEAVE, Action.ARRIVE, Action.FINISH_REPAIR)
    site.measure(passed, healthy())
    testing = site.finding("SM-2041", "R03", "heating", "element_lost", **heat)
    site.advance(minutes=3)
    site.to("limin", testing, Action.ACCEPT, Action.LEAVE, Action.ARRIVE)
    site.advance(minutes=15)
    site.do("limin", Action.FINISH_REPAIR, testing, measure="repair_heater_wiring", note="接线端子烧黑，已重新压接")
    site.measure(testing, one_element_lost())
    ready = site.finding(
        "FA-0101", "R20", "filter", "leak", 3, Kind.REAL, eta=0.61, eta_low=0.83, c_in=118.0, c_out=46.0
    )
    called = site.call("SM-2351", "早上打浆的时候嗡嗡响，打不动，闻到一点糊味，现在停着不敢用", "motor")
    site.do("operator", Action.VISIT_NEEDED, called, note="客户已断电，等上门")
    guided = site.call("FA-0141", "诊室里说风变小了，灯在闪", "filter")
    site.do("operator", Action.GUIDE, guided)
    waiting = site.finding("SM-2230", "R08", "water", "leak", 1, flow=0.42)
    site.to("limin", waiting, Action.ACCEPT, Action.ARRIVE)
    site.do("limin", Action.WAIT_FOR_PARTS, waiting, part="进水电磁阀 6 分", promised_on="2026-03-12")
    repairing = site.finding("FA-0102", "R15", "fan", "fan_dead", spin=0.0, draw=0.04)
    site.to("liuyang", repairing, Action.ACCEPT, Action.LEAVE, Action.ARRIVE)
    accepted = site.call("FA-0140", "候诊区说闷，PM2.5 一直 80 多", "filter")
    site.to("limin", accepted, Action.ACCEPT)
    offered = site.finding("SM-2231", "R06", "heating", "", 2)
    site.to("limin", offered)
    declined = site.finding("SM-2350", "R13", "overflow", "electrode", 3, temp=41.0)
    site.to("zhaolei", declined)
    site.do("zhaolei", Action.DECLINE, declined, reason="今天下午有两单在七宝，赶不过去")
    site.finding("FA-0142", "R21", "sensor", "pm25_out", 3)
    site.finding("SM-2107", "R28", "lid", "lid_open", 3, Kind.FALSE)
    site.advance(minutes=5)
    site.do("limin", Action.FINISH_REPAIR, testing, measure="replace_element", note="更换 2 号加热管")
    idle(site, "FA-0101")
    site.measure(testing, healthy(), seconds=620)
    return Story(
        testing=testing, failed_once=testing, passed=passed, offered=offered, accepted=accepted, repairing=repairing,
        ready=ready, called=called, guided=guided, waiting=waiting, closed=closed,
    )  # fmt: skip
