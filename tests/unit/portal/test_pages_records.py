"""Calls, equipment, customers and sites, people, import, quarantine: for every role, whole and as a block, and with nonsense."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from domain.clock import ManualClock, to_ms
from domain.desk.csv_import import MOST_ERRORS
from domain.desk.guidance import watch_guided
from domain.store import ingest, strangers
from domain.store.queries import registry, search
from domain.store.queries import tickets as query
from domain.tickets import triage
from domain.tickets.states import Role
from domain.tickets.triage import GUIDES, SYMPTOMS, Evidence
from gateway.adapters.registry import ADAPTERS
from gateway.messages import Reason
from portal import equipment_view
from portal.app import routes
from portal.auth import User
from portal.language import load_catalogue
from portal.pages import imports, people, quarantine
from portal.permissions import PERMISSIONS, Permission
from tests.portal_site import NOW, PASSWORD, ROLES, PortalSite, log_in, token_in
from tests.records_site import AIRY, COLD, HEALTHY, PHONE, SILENT, THIRSTY, enrich
from tests.unit.portal.conftest import ClientOf

P = Permission
PAGES: tuple[tuple[str, Permission], ...] = (
    ("/calls/new", P.TAKE_CALLS),
    (f"/calls/new?q={PHONE}&symptom=no_heat", P.TAKE_CALLS),
    ("/calls/15", P.TAKE_CALLS),
    ("/equipment", P.SEE_EQUIPMENT),
    (f"/equipment/{COLD}", P.SEE_EQUIPMENT),
    (f"/equipment/{COLD}/telemetry.json", P.SEE_EQUIPMENT),
    ("/equipment/new", P.EDIT_EQUIPMENT),
    (f"/equipment/{COLD}/edit", P.EDIT_EQUIPMENT),
    ("/customers", P.SEE_CUSTOMERS),
    ("/customers/2", P.SEE_CUSTOMERS),
    ("/customers/new", P.EDIT_CUSTOMERS),
    ("/customers/2/edit", P.EDIT_CUSTOMERS),
    ("/customers/2/sites/new", P.EDIT_CUSTOMERS),
    ("/sites/4", P.SEE_CUSTOMERS),
    ("/sites/4/edit", P.EDIT_CUSTOMERS),
    ("/people", P.SEE_PEOPLE),
    ("/people/3", P.SEE_PEOPLE),
    ("/people/new", P.EDIT_PEOPLE),
    ("/quarantine", P.SEE_QUARANTINE),
    ("/unclaimed", P.SEE_QUARANTINE),
    ("/unclaimed?state=dismissed", P.SEE_QUARANTINE),
    ("/unclaimed?state=admitted", P.SEE_QUARANTINE),
)
IMPORTS = (("/import/equipment", P.EDIT_EQUIPMENT), ("/import/people", P.EDIT_PEOPLE))
HTMX = {"HX-Request": "true"}


@pytest.fixture
def site(site: PortalSite) -> PortalSite:
    """The seeded portal with talking machines."""
    enrich(site)
    return site


def post(client: TestClient, path: str, *, files: object = None, **fields: str | list[str]) -> Response:
    """Posts a form as a browser without JavaScript does."""
    csrf = token_in(client.get("/account"))
    return client.post(path, data={"csrf": csrf, **fields}, files=files, follow_redirects=False)  # type: ignore[arg-type]


def text_of(page: Response) -> str:
    return html.unescape(page.text)


def may(role: Role, permission: Permission) -> bool:
    return permission in PERMISSIONS[role]


# ------------------------------------------------------------------------------------------------- everybody, everything


@pytest.mark.parametrize("role", ROLES)
def test_every_page_as_every_role_whole_and_as_a_block(client_of: ClientOf, role: Role) -> None:
    client = client_of(role)
    for path, permission in PAGES:
        whole, block = client.get(path), client.get(path, headers={**HTMX, "HX-Target": "main#content"})
        expected = 200 if may(role, permission) else 403
        assert (whole.status_code, block.status_code) == (expected, expected), (path, whole.text[:300])
        if expected == 200 and not path.endswith(".json"):
            assert "<!doctype html>" in whole.text, path
            assert "<!doctype" not in block.text, path
            assert "<h1>" in block.text, path
    for path, permission in IMPORTS:
        assert client.get(path).status_code == (200 if may(role, permission) else 404), path


def test_pages_say_the_same_in_english(client_of: ClientOf) -> None:
    for role in (Role.MANAGER, Role.ADMIN):
        client = client_of(role)
        for path, permission in (*PAGES, *IMPORTS):
            if may(role, permission) and not path.endswith(".json"):
                page = client.get(path, params={"lang": "en"} if "?" not in path else None)
                assert page.status_code == 200, path


@pytest.mark.parametrize("role", ROLES)
def test_no_form_of_these_pages_works_without_its_right(site: PortalSite, client_of: ClientOf, role: Role) -> None:
    client = client_of(role)
    forms: tuple[tuple[str, Permission], ...] = (
        ("/calls/new", P.TAKE_CALLS), ("/calls/15/visit_needed", P.TAKE_CALLS), ("/equipment", P.EDIT_EQUIPMENT),
        (f"/equipment/{COLD}", P.EDIT_EQUIPMENT), ("/customers", P.EDIT_CUSTOMERS), ("/customers/2", P.EDIT_CUSTOMERS),
        ("/customers/2/sites", P.EDIT_CUSTOMERS), ("/sites/4", P.EDIT_CUSTOMERS), ("/people", P.EDIT_PEOPLE),
        ("/people/3", P.EDIT_PEOPLE), ("/people/3/password", P.EDIT_PEOPLE), ("/people/3/active", P.EDIT_PEOPLE),
        ("/quarantine/replay", P.REPLAY_QUARANTINE), ("/quarantine/drop", P.REPLAY_QUARANTINE),
        ("/unclaimed/1/dismiss", P.REPLAY_QUARANTINE),
    )  # fmt: skip
    with site.sessions.read() as session:
        before = query.last_journal_id(session)
    for path, permission in forms:
        if not may(role, permission):
            assert post(client, path).status_code == 403, path
    for path, permission in (("/customers/2/phone", P.SEE_CUSTOMERS), ("/people/3/phone", P.SEE_PEOPLE)):
        if not (may(role, permission) and may(role, P.UNMASK_PHONE)):
            assert post(client, path).status_code in (403, 404), path
    with site.sessions.read() as session:
        assert query.last_journal_id(session) == before


NONSENSE = (
    "", " ", "'; DROP TABLE ticket; --", "\" OR 1=1", "%", "_", "\\", "🍵🫘🔥", "\x00", "a\x00b", "\u202e倒",
    "<script>alert(1)</script>", "{{ 7*7 }}", "../../etc/passwd", "9" * 400, "-1", "1e309", "²", "NaN", "x" * 3_000,
)  # fmt: skip


def ours() -> list[tuple[str, str]]:
    """(method, path template) of every route of these pages."""
    nouns = ("/calls", "/equipment", "/customers", "/sites", "/people", "/import", "/quarantine", "/unclaimed")
    return [
        (method, route.path)
        for route in routes()
        if route.path.startswith(nouns)
        for method in sorted(route.methods - {"HEAD"})
    ]


def test_nonsense_in_addresses_gets_a_page_and_never_a_crash(site: PortalSite, client_of: ClientOf) -> None:
    clients = [client_of(Role.MANAGER), client_of(Role.ADMIN)]
    for method, path in ours():
        if method != "GET":
            continue
        for text in NONSENSE:
            for client in clients:
                if "{" in path:
                    answer = client.get(re.sub(r"\{[^}]*\}", quote(text, safe="") or "%20", path))
                else:
                    keys = (
                        "q", "serial", "symptom", "join", "type", "condition", "region", "p", "state", "reason", "role", "site",
                        "minutes", "model", "convention", "topic",
                    )  # fmt: skip
                    answer = client.get(path, params=dict.fromkeys(keys, text))
                assert answer.status_code < 500, (path, text[:40], answer.text[:300])
                assert "<script>alert" not in answer.text, (path, text[:40])


def test_nonsense_in_forms_is_refused_with_words(site: PortalSite, client_of: ClientOf) -> None:
    names = (
        "q", "serial", "join", "kind", "words", "symptom", "began", "usage", "caller_name", "caller_phone", "next_step", "reason",
        "version", "name", "contact", "phone", "note", "address", "region", "altitude_m", "demo", "model", "site_id", "login",
        "installed_on", "warranty_until", "binding_convention", "binding_topic", "binding_zone", "roles", "skills", "locale",
        "password", "active", "chosen", "back", "content",
    )  # fmt: skip
    targets = {
        "{ticket_id}": "15",
        "{serial}": HEALTHY,
        "{customer_id}": "2",
        "{site_id}": "4",
        "{person_id}": "3",
        "{what}": "equipment",
        "{action}": "guide",
        "{stranger_id}": "1",
    }
    for method, path in ours():
        if method != "POST":
            continue
        for key, value in targets.items():
            path = path.replace(key, value)
        for role in (
            [Role.ADMIN] if path.startswith(("/people", "/import", "/quarantine", "/unclaimed")) else [Role.MANAGER]
        ):
            client = client_of(role)
            csrf = token_in(client.get("/account"))
            for text in NONSENSE:
                if path == "/people/3/password" and 10 <= len(text) <= 200:
                    continue
                answer = client.post(path, data={**dict.fromkeys(names, text), "csrf": csrf}, follow_redirects=False)
                assert answer.status_code < 500, (path, text[:40], answer.text[:300])
                assert "<script>alert" not in answer.text, (path, text[:40])


# ------------------------------------------------------------------------------------------------------------------ calls

CALL = {"kind": "repair", "words": "豆浆煮不开，光转不热", "caller_name": "", "caller_phone": ""}


def test_a_machine_is_found_by_phone_serial_site_and_customer(client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)
    for typed in (PHONE, "135 8662 0145", "0145", COLD, COLD.lower(), "文二路", "张桂香", "前店"):
        page = client.get("/calls/new", params={"q": typed})
        assert f'value="{COLD}" checked' in page.text, typed
    assert "蓝天小学食堂" in client.get("/calls/new", params={"q": "蓝天"}).text
    assert " checked" not in client.get("/calls/new", params={"q": "蓝天"}).text.split('id="machine"')[0]
    assert "没有找到" in client.get("/calls/new", params={"q": "%"}).text, "a wildcard finds only itself"


def test_numbers_stay_masked_while_taking_a_call(client_of: ClientOf) -> None:
    page = client_of(Role.OPERATOR).get("/calls/new", params={"q": "老张"})
    assert "135****0145" in page.text
    assert PHONE not in page.text


def test_telemetry_answers_the_complaint(client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)

    def stand(serial: str, symptom: str) -> str:
        page = client.get("/calls/new", params={"q": serial, "symptom": symptom})
        found = re.search(r'data-stand="(\w+)"', page.text)
        return found[1] if found else ""

    assert stand(COLD, "no_heat") == "supported"
    assert stand(HEALTHY, "no_heat") == "contradicted"
    assert stand(COLD, "leak") == "no_data"
    assert stand(SILENT, "dead") == "supported"
    assert stand(THIRSTY, "no_water") == "supported"
    assert stand(AIRY, "stale_air") == "contradicted"
    assert stand(AIRY, "no_heat") == "", "a complaint about another kind of machine says nothing"
    page = text_of(client.get("/calls/new", params={"q": COLD, "symptom": "no_heat"}))
    assert "8,100 W" in page
    assert "61个样本" in page


def test_a_call_opens_a_ticket_with_what_telemetry_said(site: PortalSite, client_of: ClientOf) -> None:
    answer = post(
        client_of(Role.OPERATOR), "/calls/new", serial=COLD, symptom="no_heat", began="今早", next_step="visit", **CALL
    )
    assert answer.status_code == 303
    with site.sessions.read() as session:
        ticket = query.ticket(session, int(answer.headers["location"].rsplit("/", 1)[1]))
        assert (ticket.serial, ticket.family, ticket.state, ticket.fault_kind) == (COLD, "heating", "ready", "real")
        assert (ticket.caller_name, ticket.caller_phone) == ("张桂香", PHONE), (
            "who is on record, where nothing was typed"
        )
        call = ticket.triage["call"]
        assert (call["symptom"], call["stand"], call["began"]) == ("no_heat", "supported", "今早")
        assert call["figures"][0]["shows"] is True
        assert len(call["figures"][0]["samples"]) == 61
    shown = text_of(client_of(Role.OPERATOR).get(answer.headers["location"]))
    assert "已转派工" in shown
    assert "豆浆煮不开，光转不热" in shown


def test_an_open_ticket_is_shown_first_and_must_be_joined_or_told_apart(site: PortalSite, client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)
    page = client.get("/calls/new", params={"q": THIRSTY})
    joined = re.search(r'name="join" value="(\d+)" checked', page.text)
    assert joined
    assert page.text.index('name="join"') < page.text.index('name="words"')
    unseen = post(client, "/calls/new", serial=THIRSTY, symptom="no_water", **CALL)
    assert unseen.status_code == 422
    assert "豆浆煮不开，光转不热" in text_of(unseen)

    answer = post(client, "/calls/new", serial=THIRSTY, symptom="no_water", join=joined[1], next_step="guide", **CALL)
    assert answer.headers["location"] == f"/calls/{joined[1]}"
    with site.sessions.read() as session:
        ticket = query.ticket(session, int(joined[1]))
        assert (ticket.state, ticket.customer_words, ticket.occurrences) == ("guided", CALL["words"], 2)
    other = post(client, "/calls/new", serial=THIRSTY, symptom="noise", join="separate", **CALL)
    assert other.headers["location"] != f"/calls/{joined[1]}"


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("words", ""), ("words", "x" * 2001), ("words", "a\x00b"), ("caller_phone", "not a number"), ("serial", "NO-SUCH"),
        ("serial", ""), ("kind", "gift"), ("join", "9999999"), ("join", "abc"), ("next_step", "explode"), ("began", "y" * 201),
    ],
)  # fmt: skip
def test_nothing_typed_is_lost_on_a_mistake(site: PortalSite, client_of: ClientOf, field: str, typed: str) -> None:
    client = client_of(Role.OPERATOR)
    with site.sessions.read() as session:
        before = query.last_journal_id(session)
    sent = {
        **CALL, "q": COLD, "serial": COLD, "symptom": "no_heat", "usage": "一天三锅", "caller_name": "小王",
        "caller_phone": "13700001111", field: typed,
    }  # fmt: skip
    answer = post(client, "/calls/new", **sent)
    assert answer.status_code in (404, 409, 422), answer.text[:300]
    page = text_of(answer)
    for name in ("words", "usage", "caller_name", "caller_phone"):
        if name != field:
            assert sent[name] in page, name
    assert 'role="alert"' in page
    with site.sessions.read() as session:
        assert query.last_journal_id(session) == before


def test_finding_without_javascript_keeps_what_was_typed(client_of: ClientOf) -> None:
    answer = post(
        client_of(Role.OPERATOR),
        "/calls/new",
        do="find",
        q="文二路",
        words="不热了",
        caller_name="小王",
        symptom="no_heat",
    )
    page = text_of(answer)
    assert answer.status_code == 200
    assert "不热了" in page
    assert "小王" in page
    assert f'value="{COLD}" checked' in page
    assert 'data-stand="supported"' in page


def test_search_as_you_type_gets_what_the_page_needs(client_of: ClientOf) -> None:
    answer = client_of(Role.OPERATOR).get("/calls/new", params={"q": PHONE}, headers={**HTMX, "HX-Target": "div#found"})
    for element in ("found", "machine", "symptom", "claim", "next"):
        assert f'id="{element}"' in answer.text, element


def test_the_self_check_is_watched_live_and_ends_by_itself(site: PortalSite, client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)
    ticket = re.search(r'name="join" value="(\d+)"', client.get("/calls/new", params={"q": THIRSTY}).text)
    assert ticket
    number = int(ticket[1])
    post(client, "/calls/new", serial=THIRSTY, symptom="no_water", join=str(number), next_step="guide", **CALL)
    page = text_of(client.get(f"/calls/{number}"))
    assert "机器前面的水阀全开了吗？" in page
    assert "等待设备恢复正常" in page
    _recovers(site, THIRSTY)
    assert "自动关闭倒计时" in text_of(client.get(f"/calls/{number}", headers={**HTMX, "HX-Target": "div#check"}))
    _minutes_later(site, THIRSTY, 4)
    with site.sessions.command() as session:
        watch_guided(session, site.clock.now())
    assert "电话解决，无需上门" in text_of(client.get(f"/calls/{number}"))


def _recovers(site: PortalSite, serial: str) -> None:
    _minutes_later(site, serial, 1)
    with site.sessions.command() as session:
        for row in query.uncleared_findings(session, serial):
            row.cleared_at_ms = to_ms(site.clock.now())
    _minutes_later(site, serial, 1)


def _minutes_later(site: PortalSite, serial: str, minutes: int) -> None:
    assert isinstance(site.clock, ManualClock)
    now = site.clock.advance(timedelta(minutes=minutes))
    with site.sessions.command() as session:
        status = registry.status(session, serial)
        assert status is not None
        status.last_seen_at, status.last_ts_ms = now, to_ms(now)


def test_a_stale_button_is_refused_with_words(client_of: ClientOf) -> None:
    answer = post(client_of(Role.OPERATOR), "/calls/15/visit_needed", version="99")
    assert answer.status_code == 409
    assert "toast-note" in answer.text
    assert post(client_of(Role.OPERATOR), "/calls/15/cancel").status_code == 404, "no other action hides behind a call"


# -------------------------------------------------------------------------------------------------------------- equipment


def test_equipment_is_found_and_narrowed(client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)

    def serials(**params: str) -> set[str]:
        page = client.get("/equipment", params=params, headers={**HTMX, "HX-Target": "div#machines"})
        return set(re.findall(r'href="/equipment/([A-Z]+-\d+)"', page.text))

    assert serials(q="食堂 1 号") == {THIRSTY}
    assert serials(condition="finding") == {THIRSTY}
    assert serials(condition="silent") == {SILENT}
    assert serials(type="freshair", condition="online") == {AIRY}
    assert serials(q="蓝天", region="华南") == set()
    assert serials(q="_") == set()
    assert serials(condition="nonsense") == serials()


def test_a_machine_shows_state_findings_tickets_card_and_topic(client_of: ClientOf) -> None:
    page = text_of(client_of(Role.OPERATOR).get(f"/equipment/{THIRSTY}"))
    for text in (
        "食堂 1 号豆浆机",
        "R07",
        "待受理",
        "6,000 W",
        "brewair/v1/",
        f"/soymilk/{THIRSTY}",
        "2025-09-01 已过保",
        "139****7722",
    ):
        assert text in page, text
    assert "13958017722" not in page


@pytest.mark.parametrize("role", [Role.ADMIN, Role.QA])
def test_who_may_not_see_customers_sees_none_on_a_machine(client_of: ClientOf, role: Role) -> None:
    for path in (f"/equipment/{THIRSTY}", "/equipment", f"/equipment/{THIRSTY}/edit", "/equipment/new"):
        page = text_of(client_of(role).get(path))
        for secret in ("刘志远", "139****7722", "蓝天教育后勤", "丰潭路"):
            assert secret not in page, (path, secret)
        if role is Role.ADMIN:
            assert "/tickets/" not in page, path


def test_the_view_itself_is_filtered_before_the_template(site: PortalSite) -> None:
    telemetry = site.app.state.portal.telemetry
    for role, sees in ((Role.ADMIN, False), (Role.QA, False), (Role.OPERATOR, True)):
        user = User(1, role.value, "", (role.value,), PERMISSIONS[role], "zh_CN", "")
        with site.sessions.read() as session:
            shown = equipment_view.show_view(session, telemetry, user, THIRSTY, NOW, NOW.date(), 60, chart=False)
            listed = equipment_view.list_view(
                session, user, q=THIRSTY, equipment_type="", condition="", region="", page=1, next_pages=""
            )
        secrets = (shown.customer, shown.phone, shown.address, shown.customer_id, listed.rows[0].customer)
        assert all(secrets) if sees else not any(secrets), role
        assert bool(shown.tickets) is (role is not Role.ADMIN)


def test_telemetry_of_a_machine_as_json(client_of: ClientOf) -> None:
    drawn = client_of(Role.OPERATOR).get(f"/equipment/{COLD}/telemetry.json", params={"minutes": 60}).json()
    assert len(drawn["times"]) == 120
    assert drawn["timezone"] == "Asia/Shanghai"


NEW_MACHINE = {"serial": "SM-7001", "model": "SMM-25", "name": "新机", "site_id": "4", "installed_on": "2026-03-01"}


def test_a_machine_is_registered_and_edited(site: PortalSite, client_of: ClientOf) -> None:
    client = client_of(Role.ADMIN)
    assert post(client, "/equipment", **NEW_MACHINE).headers["location"] == "/equipment/SM-7001"
    changed = {
        **NEW_MACHINE,
        "serial": "SM-9999",
        "name": "备用",
        "binding_convention": "tasmota",
        "binding_topic": "kitchen-2",
    }
    assert post(client, "/equipment/SM-7001", **changed).status_code == 303
    with site.sessions.read() as session:
        machine = registry.machine(session, "SM-7001")
        assert (machine.type, machine.name, machine.binding_topic) == ("soymilk", "备用", "kitchen-2")
    assert client.get("/equipment/SM-9999").status_code == 404


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("serial", "有中文"), ("serial", COLD), ("serial", "x" * 65), ("model", "SMM-999"), ("site_id", ""),
        ("site_id", "999999"), ("installed_on", "gestern"), ("warranty_until", "2020-01-01"), ("binding_topic", "only-topic"),
        ("name", "n" * 201),
    ],
)  # fmt: skip
def test_a_wrong_machine_stands_beside_its_field(client_of: ClientOf, field: str, typed: str) -> None:
    answer = post(client_of(Role.OPERATOR), "/equipment", **{**NEW_MACHINE, field: typed})
    assert answer.status_code in (404, 422), answer.text[:200]
    page = text_of(answer)
    assert 'role="alert"' in page
    assert "新机" in page or field == "name"


# ------------------------------------------------------------------------------------------------------ customers and sites


def test_numbers_are_masked_and_each_look_is_written_down(site: PortalSite, client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)
    for path in ("/customers", "/customers/2", "/customers/2/edit", "/sites/4", "/customers?q=0145"):
        assert PHONE not in client.get(path).text, path
    shown = post(client, "/customers/2/phone")
    assert PHONE in shown.text
    with site.sessions.read() as session:
        last = query.journal_after(session, query.last_journal_id(session) - 1)[0]
        assert (last.action, last.actor_name) == ("phone_unmasked", "周晓兰")
        assert PHONE not in str(last.detail)


def test_editing_a_customer_keeps_the_number_that_the_form_never_shows(site: PortalSite, client_of: ClientOf) -> None:
    client = client_of(Role.OPERATOR)

    def number() -> str:
        with site.sessions.read() as session:
            return registry.customer(session, 2).phone

    assert post(client, "/customers/2", name="老张豆浆", contact="张桂香", phone="", note="周一休息").status_code == 303
    assert number() == PHONE
    assert post(client, "/customers/2", name="老张豆浆", phone="138-0013-8000").status_code == 303
    assert number() == "13800138000"
    wrong = post(client, "/customers/2", name="老张豆浆", phone="call me", note="保留")
    assert wrong.status_code == 422
    assert "call me" in wrong.text
    assert "保留" in wrong.text
    assert post(client, "/customers/2", name="老张豆浆", phone="", no_phone="1").status_code == 303
    assert number() == ""


def also_admin(site: PortalSite, client_of: ClientOf) -> TestClient:
    """The manager, who is administrator too."""
    with site.sessions.command() as session:
        person = registry.person_by_login(session, Role.MANAGER.value)
        assert person is not None
        person.roles = [*person.roles, Role.ADMIN.value]
    return client_of(Role.MANAGER)


def test_a_customer_gets_sites_and_machines(site: PortalSite, client_of: ClientOf) -> None:
    client = also_admin(site, client_of)
    customer = post(client, "/customers", name="新客户", contact="李", phone="13700001111").headers["location"]
    place = post(client, f"{customer}/sites", name="一店", region="华东", altitude_m="1500", demo="1").headers[
        "location"
    ]
    page = text_of(client.get(place))
    assert "1,500 m" in page
    assert "演示站点" in page
    assert post(client, place, name="一店", altitude_m="99999").status_code == 422
    assert post(client, place, name="总店", altitude_m="0").status_code == 303
    assert "演示站点" not in text_of(client.get(place)), "an empty tick means no"
    assert post(client, "/customers/999999/sites", name="x").status_code == 404


def test_only_an_administrator_decides_what_is_a_demo_site(site: PortalSite, client_of: ClientOf) -> None:
    admin, operator = also_admin(site, client_of), client_of(Role.OPERATOR)
    demo = post(admin, "/customers/2/sites", name="一店", altitude_m="0", demo="1").headers["location"]
    plain = post(operator, "/customers/2/sites", name="二店", altitude_m="0").headers["location"]
    assert 'name="demo"' in admin.get(f"{demo}/edit").text
    assert 'name="demo"' not in operator.get(f"{demo}/edit").text
    assert post(operator, demo, name="总店", altitude_m="10").status_code == 303
    assert "演示站点" in text_of(operator.get(demo)), "the form has no such field: it stays as it is"
    for address in (plain, "/customers/2/sites"):
        refused = post(operator, address, name="三店", altitude_m="0", demo="1")
        assert refused.status_code == 403
        assert "三店" in refused.text
    assert "演示站点" not in text_of(operator.get(plain))


# ----------------------------------------------------------------------------------------------------------------- people


def test_a_new_technician_can_log_in_and_be_stopped(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    fields: dict[str, str | list[str]] = {
        "login": "lizq", "name": "李志强", "phone": "13800138000", "region": "华东", "roles": ["technician", "operator"],
        "skills": ["soymilk"], "password": "correct-horse-9",
    }  # fmt: skip
    where = post(admin, "/people", **fields).headers["location"]
    with TestClient(site.app) as browser:
        assert log_in(browser, "lizq", "correct-horse-9").status_code == 303
        assert post(admin, f"{where}/password", password="another-horse-10").status_code == 303
        assert browser.get("/account", follow_redirects=False).status_code == 303, "the old log-in has ended"
        assert log_in(browser, "lizq", "another-horse-10").status_code == 303
        assert post(admin, f"{where}/active", active="0").status_code == 303
        assert browser.get("/account", follow_redirects=False).status_code == 303
        assert log_in(browser, "lizq", "another-horse-10").status_code == 422
    admin.get("/people")  # takes the toast away
    assert "李志强" not in admin.get("/people").text
    assert "李志强" in admin.get("/people", params={"state": "inactive"}).text
    assert "13800138000" not in admin.get(where).text


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("login", "有 空格"), ("login", "operator"), ("name", ""), ("phone", "abc"), ("roles", []), ("skills", []),
        ("password", "short"), ("password", "x" * 201), ("roles", ["emperor"]), ("locale", "klingon"),
    ],
)  # fmt: skip
def test_a_wrong_person_stands_beside_its_field(client_of: ClientOf, field: str, typed: str | list[str]) -> None:
    fields: dict[str, str | list[str]] = {
        "login": "lizq", "name": "李志强", "phone": "", "roles": ["technician"], "skills": ["soymilk"], "password": "",
        field: typed,
    }  # fmt: skip
    answer = post(client_of(Role.ADMIN), "/people", **fields)
    assert answer.status_code == 422
    page = text_of(answer)
    assert 'role="alert"' in page
    assert "李志强" in page or field == "name"
    assert "short" not in page


def test_the_last_administrator_and_whoever_has_tickets_stay(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    for role in (Role.ADMIN, Role.TECHNICIAN):
        answer = post(admin, f"/people/{site.people[role]}/active", active="0")
        assert answer.status_code == 422
        assert 'role="alert"' in answer.text


def test_a_password_is_hashed_before_the_transaction(
    site: PortalSite, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[bool] = []

    def hashing(password: str) -> str:
        with site.sessions.command():  # would wait for the other writer, and fail, if one were open
            inside.append(True)
        return "hash"

    monkeypatch.setattr(people, "hash_password", hashing)
    assert post(client_of(Role.ADMIN), f"/people/{site.people[Role.QA]}/password", password=PASSWORD).status_code == 303
    assert inside == [True]


# ----------------------------------------------------------------------------------------------------------------- import

HEADER = "客户,联系人,电话,门店,地址,区域,序列号,类型,型号,名称,安装日期,保修至"


def table(rows: int, *bad: tuple[int, str]) -> str:
    """A spreadsheet of machines with some lines replaced (line 2 is the first machine)."""
    lines = [HEADER] + [
        f"连锁餐饮{i % 20},王店长,1390000{i % 20:04d},{i % 20}号店,杭州市{i % 20}路,华东,"
        f"IM-{i:04d},豆浆机,SMM-60,{i}号机,2026-01-05,2028-01-04"
        for i in range(rows)
    ]
    for line, text in bad:
        lines[line - 1] = text
    return "\r\n".join(lines) + "\r\n"


BAD = (
    (3, "连锁餐饮1,王店长,13900000001,1号店,,华东,坏 序列号,豆浆机,SMM-60,,2026-01-05,"),
    (17, "连锁餐饮2,王店长,13900000002,2号店,,华东,IM-9017,豆浆机,SMM-99,,2026-01-05,"),
    (40, "连锁餐饮3,王店长,13900000003,3号店,,华东,IM-9040,豆浆机,SMM-60,,2026年13月5日,"),
)


def upload(client: TestClient, raw: bytes, what: str = "equipment", name: str = "设备.csv") -> Response:
    return post(client, f"/import/{what}", files={"file": (name, raw, "text/csv")})


def machines(site: PortalSite) -> int:
    with site.sessions.read() as session:
        return search.machines(session, text="IM-").total


def test_500_machines_from_excel_with_three_bad_lines(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    refused = upload(admin, table(500, *BAD).encode("gb18030"))
    page = text_of(refused)
    assert refused.status_code == 422
    for line in (3, 17, 40):
        assert f"第 {line} 行" in page
    assert page.count("第 ") == 3
    for text in ("坏 序列号", "SMM-99", "2026年13月5日"):
        assert text in page
    assert machines(site) == 0

    checked = upload(admin, table(500).encode("gb18030"))
    assert checked.status_code == 200
    assert machines(site) == 0, "a look writes nothing"
    content = re.search(r'name="content" value="([^"]+)"', checked.text)
    assert content
    done = post(admin, "/import/equipment/run", content=content[1], name="设备.csv")
    assert (done.status_code, done.headers["location"]) == (303, "/equipment")
    assert machines(site) == 500


def test_what_is_known_already_changes_nothing(client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    for encoding in ("gb18030", "utf-8-sig"):
        looked = upload(admin, table(5).encode(encoding))
        content = re.search(r'name="content" value="([^"]+)"', looked.text)
        assert content
        assert post(admin, "/import/equipment/run", content=content[1]).status_code == 303
    assert "没有变化" in text_of(looked)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x00" * 100, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, b"PK\x03\x04" + b"\x00" * 200, "你好".encode("utf-16"),
        "没有,这样的,列\r\n1,2,3\r\n".encode(), HEADER.encode() + b",\xff\xff\r\n", b'"unclosed\r\n' * 10, b",,,,\r\n",
        b"\xef\xbb\xbf", b"x" * (2 * 1024 * 1024 + 1), "客户,门店\r\n甲,乙\r\n".encode(),
        (HEADER + "\r\n" + "🍵" * 5000 + "\r\n").encode(),
    ],
    ids=lambda raw: f"{len(raw)}-{raw[:6].hex()}",
)  # fmt: skip
def test_a_wrong_file_is_refused_with_words(site: PortalSite, client_of: ClientOf, raw: bytes) -> None:
    answer = upload(client_of(Role.ADMIN), raw)
    assert answer.status_code == 422
    page = text_of(answer)
    assert 'role="alert"' in page or "第 " in page
    assert 'type="file"' in page, "the next try needs no way back"


def test_no_file_and_a_spoilt_second_step_are_refused(client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    assert post(admin, "/import/equipment").status_code == 422
    for content in ("", "!!!", "AAAA", "x" * 5000):
        assert post(admin, "/import/equipment/run", content=content).status_code == 422
    assert post(admin, "/import/machines").status_code == 404


def test_more_errors_than_anybody_reads_are_cut(client_of: ClientOf) -> None:
    rows = table(MOST_ERRORS + 50, *((i + 2, f"甲,,,一店,,,IM {i},豆浆机,SMM-60,,,") for i in range(MOST_ERRORS + 50)))
    page = text_of(upload(client_of(Role.ADMIN), rows.encode()))
    assert f"{MOST_ERRORS}+" in page


def test_people_come_from_a_table_and_the_example_is_one(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    for what in imports.KINDS:
        example = admin.get(f"/import/{what}/example.csv")
        assert example.headers["content-type"].startswith("text/csv")
        looked = upload(admin, example.content, what)
        assert looked.status_code == 200, text_of(looked)
        content = re.search(r'name="content" value="([^"]+)"', looked.text)
        assert content
        assert post(admin, f"/import/{what}/run", content=content[1]).status_code == 303
    assert "李志强" in admin.get("/people").text
    assert "未设密码" in text_of(admin.get("/people"))
    wrong = upload(admin, "登录名,姓名,角色\r\nzhang,张三,皇帝\r\n".encode("gb18030"), "people")
    assert wrong.status_code == 422
    assert "皇帝" in text_of(wrong)


# ------------------------------------------------------------------------------------------------------------- quarantine


def test_payloads_are_shown_so_that_nothing_can_hide(client_of: ClientOf) -> None:
    page = client_of(Role.QA).get("/quarantine").text
    assert "&lt;b&gt;hot&lt;/b&gt;" in page
    assert "<b>hot</b>" not in page
    assert "\u202e" not in page
    assert r"\u202e" in page
    assert "\x00" not in page
    assert r"\xff\xfe\x00" in page


def test_replaying_and_dropping_are_wishes_in_the_row(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    assert post(admin, "/quarantine/replay", chosen=["1", "2", "999", "x", "²", "9" * 30]).status_code == 303
    assert post(admin, "/quarantine/drop", chosen=["3"], back="/quarantine?state=held&reason=&q=").status_code == 303
    assert post(admin, "/quarantine/drop", chosen=["4"], back="//evil.example/").headers["location"] == "/quarantine"
    with site.sessions.read() as session:
        states = {number: search.quarantined(session, number) for number in (1, 2, 3, 4)}
        assert [row.state if row else "" for row in states.values()] == [
            ingest.REPLAY,
            ingest.REPLAY,
            ingest.DROPPED,
            ingest.DROPPED,
        ]
        last = query.journal_after(session, 0, limit=10_000)[-1]
        assert (last.action, last.detail["ids"]) == ("quarantine_dropped", [4])
    assert post(admin, "/quarantine/drop", chosen=["1"]).status_code == 303, (
        "a wish that the gateway has not fulfilled can be withdrawn"
    )
    assert "没有报文" in text_of(admin.get("/quarantine"))


def test_nobody_else_handles_quarantine(client_of: ClientOf) -> None:
    page = client_of(Role.MANAGER).get("/quarantine").text
    assert "formaction" not in page
    assert 'name="chosen"' not in page


# -------------------------------------------------------------------------------------------------------------- unclaimed


def test_an_unclaimed_machine_is_claimed_with_what_it_said_of_itself(site: PortalSite, client_of: ClientOf) -> None:
    manager = client_of(Role.MANAGER)
    page = text_of(manager.get("/unclaimed"))
    for said in ("SM-9001", "SMM-60", "501", "canteen-plug", "未留存 1,250 条", "其余设备", "100,000 条", "未认领设备"):
        assert said in page, said
    assert "SM-9404" not in page
    assert "/dismiss" not in page, "only an administrator gives up what is held"
    links = re.findall(r'href="(/equipment/new[^"]*)"', page)
    assert "/equipment/new?claim=1&serial=SM-9001&type=soymilk&model=SMM-60" in links
    assert "/equipment/new?claim=1&convention=tasmota&topic=canteen-plug" in links
    form = text_of(manager.get("/equipment/new?claim=1&serial=SM-9001&type=soymilk&model=SMM-60"))
    assert "认领设备" in form
    assert 'href="/unclaimed">不保存' in form
    assert 'value="SM-9001"' in form
    assert '<option value="SMM-60" selected>' in form
    assert "FAU-" not in form, "it speaks as a soymilk machine"
    form = text_of(manager.get("/equipment/new?convention=tasmota&topic=canteen-plug"))
    assert '<option value="tasmota" selected>Tasmota</option>' in form
    assert 'value="canteen-plug"' in form
    assert "FAU-" in form
    wrong = text_of(
        post(manager, "/equipment", claim="1", serial="SM-9001", model="SMM-60", site_id="4", binding_topic="a/+")
    )
    assert "不能含 + 和 #" in wrong
    assert re.search(r'<input[^>]*name="binding_topic"[^>]* autofocus', wrong), "the focus is where something is wrong"
    assert wrong.count(" autofocus") == 1
    assert 'href="/unclaimed">不保存' in wrong, "a refused claim is still one"
    sent = post(manager, "/equipment", claim="1", serial="SM-9001", model="SMM-60", site_id="4")
    assert sent.headers["location"] == "/equipment/SM-9001"
    assert "留存的报文正在补收" in text_of(manager.get("/equipment/SM-9001"))
    with site.sessions.read() as session:
        assert strangers.at_the_door(session) == {"SM-9001"}
    assert "serial=SM-9001" not in text_of(manager.get("/unclaimed"))
    assert "SM-9001" in text_of(manager.get("/unclaimed?state=claimed"))
    post(manager, "/equipment", serial="SM-9555", model="SMM-60", site_id="4")
    assert "设备 SM-9555 已保存" in text_of(manager.get("/equipment/SM-9555")), "nothing is held of this one"


def test_a_dismissed_machine_disappears_and_is_counted(site: PortalSite, client_of: ClientOf) -> None:
    admin = client_of(Role.ADMIN)
    assert "/unclaimed/2/dismiss" in admin.get("/unclaimed").text
    assert "/unclaimed/6/dismiss" not in admin.get("/unclaimed").text, "who is only counted cannot be given up"
    assert post(admin, "/unclaimed/2/dismiss").headers["location"] == "/unclaimed"
    assert "canteen-plug" not in admin.get("/unclaimed").text
    page = text_of(admin.get("/unclaimed?state=dismissed"))
    assert "canteen-plug" in page
    assert "放弃 100,000 条" in page
    with site.sessions.read() as session:
        last = query.journal_after(session, 0, limit=10_000)[-1]
        assert (last.action, last.detail["name"], last.detail["messages"]) == (
            "stranger_dismissed",
            "canteen-plug",
            100_000,
        )
    assert post(admin, "/unclaimed/2/dismiss").status_code == 409, "somebody was faster"
    assert post(admin, "/unclaimed/999/dismiss").status_code == 404


# ----------------------------------------------------------------------------------------------------------------- tables


def test_tables_agree_with_those_they_speak_of() -> None:
    assert set(quarantine.REASONS) == {reason.value for reason in Reason}
    assert set(equipment_view.CONVENTIONS) == set(ADAPTERS) - {""}
    assert set(equipment_view.CONDITION_LABELS) == set(search.CONDITIONS)
    for kind in imports.KINDS.values():
        assert set(kind.columns) <= set(imports.COLUMN_LABELS)
        assert {name for row in kind.example for name in row} <= set(kind.columns)


def test_what_customers_say_and_check_is_there_in_chinese() -> None:
    chinese = load_catalogue("zh_CN")
    texts = {s.label for symptoms in SYMPTOMS.values() for s in symptoms.values()}
    texts |= {step for steps in GUIDES.values() for step in steps}
    texts |= {figure.name for figure in vars(triage).values() if isinstance(figure, Evidence)}
    assert {text for text in texts if chinese.gettext(text) == text} == set()


def test_pages_of_these_nouns_know_no_tables() -> None:
    folder = Path(__file__).parents[3] / "portal" / "pages"
    for name in ("calls", "equipment", "customers", "people", "imports", "quarantine", "unclaimed"):
        source = (folder / f"{name}.py").read_text()
        assert "store.tables" not in source, name
        assert "sqlalchemy" not in source, name
