"""Ticket, dispatch, technician's day, test run and notices: as every role, whole and in blocks, and the actions behind them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from fastapi.testclient import TestClient
from httpx import Response

from domain.catalogue.plans import PLANS
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import RULES
from domain.desk.perform import HANDLERS
from domain.findings import Kind
from domain.store.queries import tickets as query
from domain.store.tables import Ticket
from domain.tickets.states import ACTIONS, STATES, Action, State
from domain.verification.reasons import FORMS
from portal import charts, run_panel, triage
from portal.actions import DONE, FIELDS, FORWARD, GRAVE, actions_of
from portal.language import LOCALE_FOLDER, Message, Speaker, load_catalogue
from portal.pages import dispatch, today
from portal.reasons import REASONS, read_reason, reason_message
from tests.portal_site import log_in, token_in
from tests.service_site import PEOPLE, ServiceSite, Story, a_morning, build, healthy, one_element_lost
from tests.unit.verification.traces import freshair, readings

ClientOf = Callable[[str], TestClient]
EVERYBODY = tuple(login for login, *_rest in PEOPLE)
SEES_ALL = frozenset(("operator", "dispatcher", "clerk", "follow_up", "manager", "qa"))
DISPATCHES = frozenset(("dispatcher", "manager"))
TECHNICIANS = frozenset(("limin", "zhaolei", "sunhao", "liuyang"))
NOTIFIED = frozenset(("operator", "dispatcher", "clerk", "follow_up", "manager"))
ENGLISH = re.compile(r"\{[a-z_]+\}")


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> tuple[ServiceSite, Story]:
    """A morning that only reading tests share."""
    site = build(tmp_path_factory.mktemp("morning"))
    return site, a_morning(site)


@pytest.fixture(scope="module")
def reader_of(morning: tuple[ServiceSite, Story]) -> Iterator[ClientOf]:
    """Logged-in browsers on the shared morning."""
    yield from _clients(morning[0])


@pytest.fixture
def site(tmp_path: Path) -> ServiceSite:
    """An organisation of this test's own, without a ticket."""
    return build(tmp_path)


@pytest.fixture
def client_of(site: ServiceSite) -> Iterator[ClientOf]:
    """Logged-in browsers of this test's own."""
    yield from _clients(site)


def _clients(site: ServiceSite) -> Iterator[ClientOf]:
    with ExitStack() as stack:
        clients: dict[str, TestClient] = {}

        def client(login: str) -> TestClient:
            if login not in clients:
                clients[login] = stack.enter_context(TestClient(site.app, raise_server_exceptions=False))
                assert log_in(clients[login], login).status_code == 303
            return clients[login]

        yield client


def send(client: TestClient, site: ServiceSite, path: str, ticket_id: int, **form: str) -> Response:
    """Send a form as the page of that ticket has it now, unless a version is given."""
    csrf = token_in(client.get("/account"))
    version = str(site.ticket(ticket_id).version)
    return client.post(path, data={"csrf": csrf, "version": version, **form}, follow_redirects=False)


def a_ticket(site: ServiceSite) -> int:
    """A real fault, ready to dispatch."""
    return site.finding("SM-2041", "R03", "heating", "element_lost", pn=1480.0, heat_ref_w=2190.0)


# --- tables are complete


def test_every_field_and_action_of_the_state_table_can_be_shown() -> None:
    asked = {name for rule in ACTIONS.values() for name in (*rule.fields, *rule.optional)}
    assert asked == set(FIELDS)
    assert set(DONE) == set(HANDLERS)
    assert set(FORWARD) | set(GRAVE) <= set(HANDLERS)


def test_every_open_state_has_a_place_on_dispatch_and_every_technicians_state_in_the_day() -> None:
    listed = [state for _key, _title, states in dispatch.SECTIONS for state in states]
    assert len(listed) == len(set(listed))
    assert set(listed) == {s for s in State if STATES[s].deadline.value != "ended"} - {State.REPORTED, State.GUIDED}
    assert {state for stage in today.ORDER for state in stage} == set(listed) - {State.READY, State.AWAITING_CONSENT}


def test_every_channel_state_cause_and_evidence_has_a_name() -> None:
    for equipment in EQUIPMENT.values():
        assert set(equipment.channels) <= set(charts.CHANNEL_LABELS)
        assert set(equipment.states) <= set(charts.RUN_STATE_LABELS)
        drawn = {key for panel in charts.PANELS[equipment.key] for key in panel.channels}
        assert drawn <= set(equipment.channels)
    rows = [row for rules in RULES.values() for row in rules]
    assert {row.cause for row in rows if row.cause} <= set(triage.CAUSES)
    assert {key for row in rows for key in row.evidence} <= set(triage.EVIDENCE)


# --- every page as every role, whole and as a block


@pytest.mark.parametrize("login", EVERYBODY)
def test_pages_open_for_those_who_may_and_for_nobody_else(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf, login: str
) -> None:
    site, story = morning
    client, run = reader_of(login), site.runs(story.testing)[0]
    own = login == "limin"
    ticket = 200 if login in SEES_ALL or own else 403 if login == "admin" else 404
    expected = {
        f"/tickets/{story.testing}": ticket,
        f"/tickets/{story.testing}/telemetry.json": ticket,
        f"/runs/{run.id}": ticket,
        "/dispatch": 200 if login in DISPATCHES else 403,
        "/today": 200 if login in TECHNICIANS else 403,
        "/notices": 200 if login in NOTIFIED else 403,
    }
    assert {path: client.get(path).status_code for path in expected} == expected


BLOCKS = (
    ("limin", "/tickets/{testing}", ("ticket_live", "ticket_side", "ticket_story")),
    ("manager", "/tickets/{closed}", ("ticket_live", "ticket_side", "ticket_story")),
    ("dispatcher", "/dispatch", ("dispatch",)),
    ("manager", "/dispatch", ("dispatch",)),
    ("limin", "/today", ("today_job", "today_actions")),
    ("limin", "/runs/{run}", ("run_live",)),
    ("limin", "/runs/{first}", ("run_live",)),
    ("dispatcher", "/notices", ("notices",)),
)


@pytest.mark.parametrize(("login", "path", "blocks"), BLOCKS)
@pytest.mark.parametrize("locale", ["zh_CN", "en"])
def test_a_block_is_what_the_page_shows(
    morning: tuple[ServiceSite, Story],
    reader_of: ClientOf,
    login: str,
    path: str,
    blocks: tuple[str, ...],
    locale: str,
) -> None:
    site, story = morning
    numbers = {
        "testing": story.testing,
        "closed": story.closed,
        "run": site.runs(story.testing)[0].id,
        "first": site.runs(story.testing)[-1].id,
    }
    client, url = reader_of(login), path.format(**numbers)
    headers = {"Cookie": f"lang={locale}; " + "; ".join(f"{c.name}={c.value}" for c in client.cookies.jar)}
    whole = client.get(url, headers=headers).text
    assert "<html" in whole
    assert not ENGLISH.search(re.sub(r"<(script|meta)[^>]*>", "", whole))
    for block in blocks:
        part = client.get(url, headers={**headers, "HX-Request": "true", "HX-Target": f"div#{block}"}).text
        assert "<html" not in part
        assert part.strip()
        assert squeezed(part) in squeezed(whole)


def squeezed(html: str) -> str:
    """Markup without what differs from request to request."""
    return re.sub(r"\s+|<hx-partial.*?</hx-partial>", "", html)


def test_all_times_are_shanghais(morning: tuple[ServiceSite, Story], reader_of: ClientOf) -> None:
    site, story = morning
    opened = site.ticket(story.testing).opened_at
    page = reader_of("manager").get(f"/tickets/{story.testing}").text
    assert f"3月10日 {(opened.hour + 8) % 24:02d}:{opened.minute:02d}" in page


# --- the ticket


def test_a_ticket_shows_exactly_the_actions_that_state_and_role_permit(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf
) -> None:
    site, _story = morning
    for ticket in query_all(site):
        for login in ("operator", "dispatcher", "limin", "clerk", "manager", "qa"):
            page = reader_of(login).get(f"/tickets/{ticket.id}").text
            shown = set(re.findall(rf'action="/tickets/{ticket.id}/(\w+)"', page)) - {"phone"}
            roles = site.actors[login].roles
            visible = login in SEES_ALL or ticket.assignee_id == site.people[login]
            allowed = {
                a.value for a in HANDLERS if State(ticket.state) in ACTIONS[a].moves and roles & ACTIONS[a].roles
            }
            assert shown <= allowed if visible else not shown
            blocked = page.count('class="blocked"')
            assert len(shown) + blocked == (len(allowed) if visible else 0), (login, ticket.state)


def query_all(site: ServiceSite) -> list[Ticket]:
    """Every ticket of the site."""
    with site.sessions.read() as session:
        return list(query.all_tickets(session))


def test_a_held_back_action_says_why(morning: tuple[ServiceSite, Story]) -> None:
    site, story = morning
    with site.sessions.read() as session:
        ticket = query.ticket(session, story.testing)
        actions = actions_of(session, ticket, site.actors["limin"], site.now, "en")
    assert [blocked.action for blocked in actions.blocked] == [Action.EXTEND_TEST]
    assert actions.blocked[0].reason == "The test run is still being measured"
    assert [form.action for form in actions.grave] == [Action.BACK_TO_REPAIR]


def test_codes_fit_the_machine_and_the_usual_measures_come_first(morning: tuple[ServiceSite, Story]) -> None:
    site, story = morning
    with site.sessions.read() as session:
        ticket = query.ticket(session, story.repairing)
        form = actions_of(session, ticket, site.actors["liuyang"], site.now, "zh_CN").primary
    assert form is not None
    assert form.action == Action.FINISH_REPAIR
    measure = next(entry for entry in form.fields if entry.name == "measure")
    assert measure.choices[0].group == PLANS["freshair:fan"].name_zh
    assert {choice.value[0] for entry in form.fields if entry.name == "fault" for choice in entry.choices} == {"A"}
    assert "target_l" not in [entry.name for entry in form.fields]


def test_verdicts_show_every_criterion_also_of_runs_that_no_longer_count(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf
) -> None:
    site, story = morning
    second, first = site.runs(story.testing)
    page = reader_of("manager").get(f"/tickets/{story.testing}").text
    plan = PLANS["soymilk:heating"]
    assert all(page.count(f">{criterion.name_zh}<") >= 2 for criterion in plan.criteria)
    assert "不合格" in page
    assert "已作废" in page
    assert second.voided_at is None
    assert first.voided_at is not None
    sealed = reader_of("manager").get(f"/runs/{first.id}").text
    assert re.search(r'class="mono hash">[0-9a-f]{64}<', sealed)


def test_phone_numbers_are_masked_until_asked_for_and_the_look_is_journalled(
    site: ServiceSite, client_of: ClientOf
) -> None:
    ticket = a_ticket(site)
    assert "13912345678" not in client_of("operator").get(f"/tickets/{ticket}").text
    shown = send(client_of("operator"), site, f"/tickets/{ticket}/phone", ticket)
    assert 'href="tel:13912345678"' in shown.text
    with site.sessions.read() as session:
        assert query.timeline(session, ticket)[-1].action == "phone_shown"
    assert send(client_of("clerk"), site, f"/tickets/{ticket}/phone", ticket).status_code == 403


def test_a_stale_page_is_refused_and_a_double_submit_does_no_harm(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket)
    seen = str(site.ticket(ticket).version)
    client = client_of("limin")
    assert send(client, site, f"/tickets/{ticket}/accept", ticket, version=seen).status_code == 303
    assert send(client, site, f"/tickets/{ticket}/accept", ticket, version=seen).status_code == 303
    with site.sessions.read() as session:
        assert [row.action for row in query.timeline(session, ticket)].count("accept") == 1
    stale = send(client, site, f"/tickets/{ticket}/leave", ticket, version=seen)
    assert stale.status_code == 409
    assert load_catalogue("zh_CN").gettext("Somebody else changed this first; look again and repeat") in stale.text
    assert site.ticket(ticket).state == State.ACCEPTED
    without = send(client, site, f"/tickets/{ticket}/leave", ticket, version="")
    assert without.status_code == 409


def test_a_repair_sent_twice_starts_one_run_and_one_with_other_codes_is_refused(
    site: ServiceSite, client_of: ClientOf
) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE)
    seen = str(site.ticket(ticket).version)
    form = {"version": seen, "fault": "S-T2", "cause": "element_open", "measure": "replace_element", "note": "好了"}
    url = f"/today/{ticket}/finish_repair"
    answers = [send(client_of("limin"), site, url, ticket, **form).status_code for _ in range(2)]
    assert answers == [303, 303]
    other = send(client_of("limin"), site, url, ticket, **{**form, "measure": "descale"})
    assert other.status_code == 409
    assert len(site.runs(ticket)) == 1


def test_a_refused_form_comes_back_as_typed_with_the_fault_beside_its_field(
    site: ServiceSite, client_of: ClientOf
) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE)
    for base in ("/tickets", "/today"):
        url = f"{base}/{ticket}/finish_repair"
        answer = send(client_of("limin"), site, url, ticket, fault="S-T2", measure="replace_element", note="端子烧黑")
        assert answer.status_code == 422
        assert 'id="finish_repair-cause-error"' in answer.text
        assert ">端子烧黑</textarea>" in answer.text
        assert re.search(r'<option value="replace_element" selected>', answer.text)
    assert not site.runs(ticket)


def test_what_cannot_be_undone_needs_a_tick(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    url = f"/tickets/{ticket}/cancel"
    refused = send(client_of("dispatcher"), site, url, ticket, reason="重复报修")
    assert refused.status_code == 422
    assert site.ticket(ticket).state == State.READY
    assert send(client_of("dispatcher"), site, url, ticket, reason="重复报修", confirm="yes").status_code == 303
    assert site.ticket(ticket).state == State.CANCELLED


def test_nobody_acts_beyond_role_or_state(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket, Action.ACCEPT)
    assert send(client_of("zhaolei"), site, f"/tickets/{ticket}/arrive", ticket).status_code == 404
    assert send(client_of("zhaolei"), site, f"/today/{ticket}/arrive", ticket).status_code == 404
    assert (
        send(client_of("operator"), site, f"/tickets/{ticket}/extend_deadline", ticket, reason="x").status_code == 403
    )
    assert send(client_of("limin"), site, f"/tickets/{ticket}/close", ticket).status_code == 409
    assert send(client_of("limin"), site, f"/tickets/{ticket}/verdict_passed", ticket).status_code in (403, 409)
    assert client_of("limin").post(f"/tickets/{ticket}/leave", data={"version": "1"}).status_code == 403
    assert site.ticket(ticket).state == State.ACCEPTED


# --- dispatch


def test_one_click_assigns_the_best_and_leads_back_to_the_list(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    page = client_of("dispatcher").get("/dispatch?region=浦东").text
    best = re.search(r'name="assignee" value="(\d+)"', page)
    assert best is not None
    assert "同区域：浦东" in page
    answer = send(
        client_of("dispatcher"),
        site,
        f"/dispatch/{ticket}/assign",
        ticket,
        assignee=best[1],
        next="/dispatch?region=浦东",
    )
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/dispatch?region=")
    assert site.ticket(ticket).assignee_id == int(best[1])


def test_a_time_typed_is_shanghais_and_one_that_ends_before_it_begins_is_refused(
    site: ServiceSite, client_of: ClientOf
) -> None:
    ticket, who = a_ticket(site), str(site.people["limin"])
    url = f"/dispatch/{ticket}/assign"
    form = {"assignee": who, "window_from": "2026-03-10T14:00", "window_to": "2026-03-10T13:00"}
    refused = send(client_of("dispatcher"), site, url, ticket, **form)
    assert refused.status_code == 422
    assert 'value="2026-03-10T14:00"' in refused.text
    assert (
        send(client_of("dispatcher"), site, url, ticket, **{**form, "window_to": "2026-03-10T16:00"}).status_code == 303
    )
    found = site.ticket(ticket)
    assert found.window_from is not None
    assert found.window_from.isoformat() == "2026-03-10T06:00:00+00:00"


def test_dispatch_filters_sorts_and_says_why_a_ticket_is_back(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf
) -> None:
    site, story = morning
    client = reader_of("dispatcher")
    everything = client.get("/dispatch").text
    assert "今天下午有两单在七宝，赶不过去" in everything
    only = client.get("/dispatch?type=freshair").text
    assert f'id="row-{story.ready}"' in only
    assert f'id="row-{story.called}"' not in only
    mine = client.get(f"/dispatch?technician={site.people['liuyang']}").text
    assert re.findall(r'id="row-(\d+)"', mine) == [str(story.repairing)]
    order = re.findall(r'id="row-(\d+)"', client.get("/dispatch?sort=severity").text)
    under_way = [int(n) for n in order if site.ticket(int(n)).state in ("accepted", "repairing", "testing", "verified")]
    severities = [site.ticket(number).severity for number in under_way]
    assert severities == sorted(severities)
    looking = reader_of("manager").get("/dispatch").text
    assert "/assign" not in looking
    assert "派工和改派由调度操作" in looking
    assert "派工和改派由" not in client.get("/dispatch").text


# --- the day, the run, notices


def test_the_day_puts_what_one_is_in_the_middle_of_first(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf
) -> None:
    _site, story = morning
    page = reader_of("limin").get("/today").text
    assert f'href="/tickets/{story.testing}"' in page.split('class="jobs-later"')[0]
    later = re.findall(r'href="/today\?job=(\d+)"', page.split('class="jobs-later"')[1])
    assert later == [str(story.offered), str(story.accepted), str(story.waiting)]
    chosen = reader_of("limin").get(f"/today?job={story.accepted}").text
    assert f'action="/today/{story.accepted}/leave"' in chosen
    assert f'action="/today/{story.ready}/' not in reader_of("limin").get(f"/today?job={story.ready}").text


def test_the_day_goes_from_the_offer_to_the_end(site: ServiceSite, client_of: ClientOf) -> None:
    ticket, client = a_ticket(site), client_of("limin")
    site.to("limin", ticket)
    for action in ("accept", "leave", "arrive"):
        assert f'id="do-{action}"' in client.get("/today").text
        assert send(client, site, f"/today/{ticket}/{action}", ticket).headers["location"] == f"/today?job={ticket}"
    form = {"fault": "S-T2", "cause": "element_open", "measure": "replace_element"}
    assert send(client, site, f"/today/{ticket}/finish_repair", ticket, **form).status_code == 303
    assert "等待设备数据" in client.get("/today").text
    site.measure(ticket, healthy())
    assert send(client, site, f"/today/{ticket}/close", ticket).status_code == 303
    assert site.ticket(ticket).state == State.CLOSED
    assert "已完成" in client.get("/today").text


def test_checks_that_the_plan_asks_for_are_entered_by_the_one_whose_job_it_is(
    site: ServiceSite, client_of: ClientOf
) -> None:
    ticket = site.finding("SM-2041", "R13", "overflow", "electrode", 3)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE)
    site.do("limin", Action.FINISH_REPAIR, ticket, fault="S-T6", cause="electrode_dirty", measure="clean_electrode")
    run = site.runs(ticket)[0]
    url = f"/runs/{run.id}/entries"
    assert "强制防溢停机时间" in client_of("limin").get("/today").text
    assert send(client_of("limin"), site, url, ticket, key="forced_trip", value="很快").status_code == 422
    assert send(client_of("limin"), site, url, ticket, key="insulation", value="2").status_code == 422
    assert send(client_of("dispatcher"), site, url, ticket, key="forced_trip", value="2").status_code == 403
    assert send(client_of("zhaolei"), site, url, ticket, key="forced_trip", value="2").status_code == 404
    answer = send(client_of("limin"), site, url, ticket, key="forced_trip", value="2.4", next="/today")
    assert answer.headers["location"] == "/today"
    assert site.runs(ticket)[0].entries == {"forced_trip": 2.4}


def test_a_silent_machine_is_named_while_its_run_waits(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE, Action.FINISH_REPAIR)
    assert "没有收到数据" not in client_of("limin").get("/today").text
    site.advance(minutes=5)
    assert "没有收到数据" in client_of("limin").get("/today").text


def test_notices_are_read_once_and_only_by_those_they_are_for(site: ServiceSite, client_of: ClientOf) -> None:
    ticket = a_ticket(site)
    site.advance(hours=25)
    with site.sessions.read() as session:
        found = query.notices(session, person_id=0, roles=["manager"])
    assert found
    number = str(found[0].id)
    assert send(client_of("operator"), site, f"/notices/{number}/read", ticket).status_code == 404
    page = client_of("manager").get("/notices").text
    assert f'action="/notices/{number}/read"' in page
    assert send(client_of("manager"), site, f"/notices/{number}/read", ticket).status_code == 303
    assert f'action="/notices/{number}/read"' not in client_of("manager").get("/notices").text
    assert f'href="/tickets/{ticket}"' in client_of("manager").get("/notices?all=1").text
    assert send(client_of("dispatcher"), site, "/notices/read", ticket, newest="100000").status_code == 303
    with site.sessions.read() as session:
        assert not query.notices(session, person_id=site.people["dispatcher"], roles=["dispatcher"])


# --- charts


def test_charts_have_limits_of_card_and_run_bands_and_holes_where_nothing_was_heard(
    morning: tuple[ServiceSite, Story], reader_of: ClientOf
) -> None:
    _site, story = morning
    given = reader_of("limin").get(f"/tickets/{story.testing}/telemetry.json?minutes=360").json()
    panels = {panel["key"]: panel for panel in given["panels"]}
    assert list(panels) == ["power", "temperature", "water", "voltage"]
    assert [limit["value"] for limit in panels["voltage"]["limits"]] == [198.0, 235.4]
    assert {limit["label"] for limit in panels["power"]["limits"]} == {"试机下限", "试机上限", "额定加热功率"}
    assert {band["tone"] for band in given["bands"]} == {"finding", "run"}
    assert given["timezone"] == "Asia/Shanghai"
    assert None in panels["power"]["series"][0]["values"]
    assert given["times"] == sorted(given["times"])
    assert all(len(s["values"]) == len(given["times"]) for panel in given["panels"] for s in panel["series"])
    one = reader_of("limin").get(f"/tickets/{story.testing}/telemetry.json?channels=temp_c&minutes=15").json()
    assert [panel["key"] for panel in one["panels"]] == ["temperature"]


def test_a_store_that_is_away_takes_no_page_down(site: ServiceSite, client_of: ClientOf) -> None:
    from domain.errors import UnavailableError

    class Away:
        def __getattr__(self, name: str) -> object:
            raise UnavailableError("The telemetry store is away")

    ticket = a_ticket(site)
    object.__setattr__(site.app.state.portal, "telemetry", Away())
    assert client_of("manager").get(f"/tickets/{ticket}").status_code == 200
    assert client_of("manager").get(f"/tickets/{ticket}/telemetry.json").status_code == 503


# --- the judge's reasons


def test_what_the_judge_says_is_said_in_chinese() -> None:
    from domain.catalogue.freshair.cards import CARDS as FRESHAIR
    from domain.catalogue.soymilk.cards import CARDS as SOYMILK
    from domain.verification.judge import judge

    fan = readings(freshair(1000), FRESHAIR["FAU-300"], seq=True)
    verdicts = [
        *(judge(plan, SOYMILK["SMM-10"], trace, ended=ended)
          for plan in PLANS.values() if plan.type == "soymilk"
          for trace in (healthy(), one_element_lost(), healthy()[:40], [])
          for ended in (True, False)),
        *(judge(plan, FRESHAIR["FAU-300"], trace, ended=ended)
          for plan in PLANS.values() if plan.type == "freshair"
          for trace in (fan, fan[:30])
          for ended in (True, False)),
    ]  # fmt: skip
    said = {
        (text, orjson.dumps(dataclasses.asdict(reason)))
        for v in verdicts
        for text, reason in (*zip(v.reasons, v.said, strict=True), *((c.reason, c.said) for c in v.criteria))
        if text and reason
    }
    assert len(said) > 60
    english, chinese = Speaker("en", ZoneInfo("UTC")), Speaker("zh_CN", ZoneInfo("UTC"))
    for text, body in said:
        message = reason_message(orjson.loads(body), "", "zh_CN")
        in_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in chinese.text(message))
        assert in_chinese or message.message_id == FORMS["co2"], text
        # in English the key and its figures say what was sealed as text, but for the names of criteria and channels
        named = reason_message(orjson.loads(body), "", "en")
        if named.message_id not in (FORMS["criterion"], FORMS["raised"], FORMS["too_few_of"]):
            assert english.text(named) == text
        assert not unread(read_reason(text, "zh_CN")), text  # as evidence without keys is read


def unread(message: object) -> bool:
    """Whether a message, or one inside it, is a sentence that no form fits."""
    if not isinstance(message, Message):
        return False
    known = {*REASONS, "{name}: {reason}", "{first}; {second}", "{first}, {second}"}
    return message.message_id not in known or any(unread(value) for value in message.params.values())


def test_a_reason_keeps_its_figures() -> None:
    said = read_reason("heating_power: Median 1474 W normalised, limits 1980…2310 W; no baseline of this unit, "
                       "that half is left out", "zh_CN")  # fmt: skip
    zh = load_catalogue("zh_CN", LOCALE_FOLDER)

    def spoken(message: object) -> str:
        if not isinstance(message, Message):
            return zh.gettext(str(message))
        return zh.gettext(message.message_id).format(**{k: spoken(v) for k, v in message.params.items()})

    assert spoken(said) == "加热功率：折算功率中位数 1474 W，范围 1980…2310 W；本机没有基准值，不比较基准"
    raised = read_reason("alarms: R03 P2 element_lost was raised", "zh_CN")
    assert spoken(raised).endswith("试机中触发告警 R03 P2 加热功率不足")


def test_phases_of_a_run_are_known(site: ServiceSite) -> None:
    ticket = a_ticket(site)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE, Action.FINISH_REPAIR)
    seen = set()
    for seconds in (10, 400, 1100):
        site.measure(ticket, healthy(), seconds=seconds)
        seen.add(str(site.runs(ticket)[0].progress.get("phase", "")))
    assert seen <= set(run_panel.PHASES)


def test_a_finding_is_told_in_words(morning: tuple[ServiceSite, Story], reader_of: ClientOf) -> None:
    _site, story = morning
    page = reader_of("limin").get(f"/tickets/{story.testing}").text
    for words in ("加热功率不足", "多根加热管断了一根，或缺一相", "正常加热功率", "真性故障"):
        assert words in page
    assert "element_lost" not in page


def test_a_ticket_on_probation_says_what_is_waited_for_and_what_came_of_it(site: ServiceSite) -> None:
    ticket = site.finding(
        "FA-0101", "R20", "filter", "leak", 3, Kind.REAL, eta=0.61, eta_low=0.83, c_in=118.0, c_out=46.0
    )
    site.to("limin", ticket, Action.ACCEPT, Action.LEAVE, Action.ARRIVE)
    site.do("limin", Action.FINISH_REPAIR, ticket, measure="replace_filter", cause="filter_clogged")
    site.measure(ticket, readings(freshair(1000, cin=20.0)))
    with TestClient(site.app) as client:
        log_in(client, "dispatcher")
        page = client.get(f"/tickets/{ticket}").text
        assert "试机合格，观察期至" in page
        assert "PM2.5 达到 75 µg/m³" in page
        site.measure(ticket, readings(freshair(3 * 3600, cin=120.0, eta=0.3, step_s=10)))
        page = client.get(f"/tickets/{ticket}").text
    assert "试机合格，观察期至" not in page
    assert re.search(r'run-title">\s*观察期复检', page), "a probation is not called the first test run"


def test_a_reason_names_a_channel_as_people_do() -> None:
    said = {"key": "too_few_of", "figures": {"channel": "power_w", "count": "3", "needed": "80"}}
    for message in (
        reason_message(said, "", "zh_CN"),
        read_reason("Too few samples of power_w: 3, at least 80 needed", "zh_CN"),
    ):
        assert message.params["channel"] == charts.CHANNEL_LABELS["power_w"]
