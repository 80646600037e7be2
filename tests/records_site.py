"""What the record pages need beside ``portal_site``: a hotline's day with machines that talk, fail and fall silent."""

from __future__ import annotations

from datetime import date, timedelta

from domain.clock import to_ms
from domain.desk.intake import open_from_finding
from domain.findings import Finding, Kind, Severity
from domain.readings import Reading, Value
from domain.store.tables import Customer, Equipment, EquipmentStatus, QuarantineRow, Site, StrangerRow
from domain.telemetry.sqlite import SqliteTelemetry
from tests.portal_site import NOW, PortalSite

PHONE = "13586620145"
"""The number of a customer with exactly one machine, ``COLD``."""
COLD, THIRSTY, SILENT, HEALTHY, AIRY, NEW = "SM-2001", "SM-2002", "SM-2003", "SM-2004", "FA-2101", "SM-2009"
CUSTOMERS = (
    ("老张豆浆铺", "张桂香", PHONE, (("老张豆浆铺·文二路", "杭州市西湖区文二路 218 号", "华东"),)),
    (
        "蓝天教育后勤", "刘志远", "13958017722",
        (("蓝天小学食堂", "杭州市拱墅区丰潭路 66 号", "华东"), ("蓝天幼儿园厨房", "杭州市拱墅区祥园路 9 号", "华东")),
    ),
    ("钱江世纪物业", "何晓峰", "0571-88166200", (("世纪大厦 12 层", "杭州市萧山区市心北路 1 号", "华东"),)),
)  # fmt: skip
MACHINES: tuple[tuple[str, str, str, str, str, date | None], ...] = (
    (COLD, "soymilk", "SMM-60", "前店 60 升豆浆机", "老张豆浆铺·文二路", date(2027, 5, 31)),
    (THIRSTY, "soymilk", "SMM-25", "食堂 1 号豆浆机", "蓝天小学食堂", date(2025, 9, 1)),
    (SILENT, "soymilk", "SMM-25", "食堂 2 号豆浆机", "蓝天小学食堂", date(2025, 9, 1)),
    (HEALTHY, "soymilk", "SMM-10", "早餐间豆浆机", "蓝天幼儿园厨房", None),
    (AIRY, "freshair", "FAU-300", "会议室新风", "世纪大厦 12 层", date(2026, 12, 31)),
    (NEW, "soymilk", "SMM-10", "备用机", "蓝天幼儿园厨房", None),
)


def enrich(site: PortalSite) -> None:
    """Customers, machines with an hour of samples, findings with their tickets, and a filled quarantine."""
    with site.sessions.command() as session:
        sites: dict[str, Site] = {}
        for name, contact, phone, places in CUSTOMERS:
            customer = Customer(name=name, contact=contact, phone=phone, created_at=NOW)
            session.add(customer)
            session.flush()
            for place, address, region in places:
                sites[place] = Site(
                    customer_id=customer.id, name=place, address=address, region=region, created_at=NOW, demo=False
                )
                session.add(sites[place])
        session.flush()
        for serial, kind, model, name, place, until in MACHINES:
            session.add(
                Equipment(
                    serial=serial, type=kind, model=model, name=name, site_id=sites[place].id, warranty_until=until,
                    installed_on=date(2024, 9, 1), created_at=NOW,
                )
            )  # fmt: skip
        session.flush()
        for serial, state, online, minutes_ago, latest in STATUSES:
            heard = NOW - timedelta(minutes=minutes_ago)
            session.add(
                EquipmentStatus(
                    serial=serial, last_seen_at=heard, last_ts_ms=to_ms(heard), online=online, run_state=state,
                    latest=latest, interval_s=30, fw="1.4.2",
                )
            )  # fmt: skip
        for number, (reason, topic, payload, why) in enumerate(POISON):
            session.add(
                QuarantineRow(
                    spool_position=f"gw:{number:020d}", received_at=NOW - timedelta(minutes=7 * number), topic=topic,
                    payload=payload, reason=reason, explanation=why, serial=None, state="held",
                )
            )  # fmt: skip
        session.add_all(strangers())
    with site.sessions.command() as session:
        open_from_finding(session, THIRST, NOW - timedelta(minutes=6))
    write(site, COLD, "soymilk", {"run_state": "heating", "power_w": 41.0, "voltage_v": 381.2, "temp_c": 23.4})
    write(site, HEALTHY, "soymilk", {"run_state": "heating", "power_w": 2190.0, "voltage_v": 221.3, "temp_c": 71.0})
    write(
        site, THIRSTY, "soymilk", {"run_state": "filling", "power_w": 18.0, "water_flow_lpm": 0.1, "voltage_v": 220.8}
    )
    write(site, AIRY, "freshair", {"run_state": "running", "power_w": 58.0, "pm25_in_ugm3": 96.0, "pm25_out_ugm3": 7.0})


STATUSES: tuple[tuple[str, str, bool, int, dict[str, Value]], ...] = (
    (COLD, "heating", True, 0, {"power_w": 41.0, "voltage_v": 381.2, "temp_c": 23.4, "water_flow_lpm": 0.0}),
    (THIRSTY, "filling", True, 0, {"power_w": 18.0, "voltage_v": 220.8, "temp_c": 19.2, "water_flow_lpm": 0.1}),
    (SILENT, "standby", False, 47, {"power_w": 8.0, "voltage_v": 221.0}),
    (HEALTHY, "heating", True, 0, {"power_w": 2190.0, "voltage_v": 221.3, "temp_c": 71.0, "water_flow_lpm": 0.0}),
    (AIRY, "running", True, 0, {"power_w": 58.0, "pm25_in_ugm3": 96.0, "pm25_out_ugm3": 7.0, "airflow_m3h": 291.0}),
)
THIRST = Finding(
    "R07", "water", Severity.P3, THIRSTY, to_ms(NOW - timedelta(minutes=6)), kind=Kind.FALSE, cause="no_water",
    evidence={"flow": 0.1},
)  # fmt: skip
POISON = (
    (
        "unreadable",
        "brewair/v1/03/soymilk/SM-2001/up/telemetry",
        b'{"ts":1763776800123,"power_w":',
        "unexpected end of data",
    ),
    (
        "unknown_serial",
        "brewair/v1/11/soymilk/SM-9001/up/telemetry",
        b'{"ts":1763776800123,"power_w":8890.0}',
        "SM-9001",
    ),
    (
        "wrong_type",
        "brewair/v1/03/freshair/FA-2101/up/telemetry",
        b'{"ts":1763776800123,"power_w":"<b>hot</b>"}',
        "power_w",
    ),
    ("unknown_topic", "tele/kitchen\u202e/STATE", bytes(range(64)) + b"\xff\xfe\x00", "no convention has this topic"),
)


def strangers() -> list[StrangerRow]:
    """Machines that nobody has registered: native, foreign with more than is held, dismissed, taken in, and all others."""
    lines: tuple[tuple[str, str, str, str, str, int, int, int], ...] = (
        ("", "soymilk/SM-9001", "SM-9001", "soymilk", "waiting", 501, 501, 0),
        ("tasmota", "canteen-plug", "", "", "waiting", 101_250, 100_000, 1_250),
        ("sparkplug", "blue-sky/canteen-3/edge-7/soy-milk-machine-with-a-long-name", "", "", "waiting", 7, 7, 0),
        ("", "soymilk/SM-9404", "SM-9404", "soymilk", "dismissed", 12, 0, 0),
        ("", f"soymilk/{NEW}", NEW, "soymilk", "admitted", 40, 0, 0),
        ("", "", "", "", "waiting", 33, 0, 33),
    )
    return [
        StrangerRow(
            convention=convention, name=name, serial=serial, type=kind, model="SMM-60" if serial == "SM-9001" else "",
            fw="1.4.2" if serial == "SM-9001" else "", state=state, first_heard_at=NOW - timedelta(hours=30),
            last_heard_at=NOW - timedelta(minutes=3), heard=heard, held=held, held_bytes=held * 160, beyond=beyond,
            dismissed=12 if state == "dismissed" else 0, taken=40 if state == "admitted" else 0,
            machine=NEW if state == "admitted" else None,
            handled_at=NOW - timedelta(hours=1) if state in ("dismissed", "admitted") else None,
        )
        for convention, name, serial, kind, state, heard, held, beyond in lines
    ]  # fmt: skip


def write(site: PortalSite, serial: str, kind: str, values: dict[str, Value], *, count: int = 120) -> None:
    """An hour of samples up to now, 30 s apart, with a little ripple."""
    now = to_ms(site.clock.now())
    readings = []
    for i in range(count):
        ripple = 1 + ((i * 7) % 11 - 5) / 400
        figures: dict[str, Value] = {k: round(v * ripple, 2) if isinstance(v, float) else v for k, v in values.items()}
        readings.append(Reading(serial, kind, now - i * 30_000, figures))
    telemetry = SqliteTelemetry(site.settings.data_dir / "telemetry.db")
    telemetry.write(readings)
    telemetry.close()
