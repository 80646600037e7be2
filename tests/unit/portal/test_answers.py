"""Two bodies at one address, headers, errors, languages, notices, static files."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi.responses import Response
from fastapi.testclient import TestClient

from domain import errors as domain_errors
from domain.errors import InvalidError, RefusedError, UnavailableError
from domain.tickets.states import Role, State
from portal.auth import ForgeryError, LogInNeededError, TooManyAttemptsError
from portal.deps import AnyPage, Page, page_router, require
from portal.errors import STATUS, problem_type, status_of
from portal.language import Message
from portal.permissions import Permission
from tests.portal_site import PortalSite, token_in

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "div#board"}

KINDS = [
    domain_errors.InvalidError, domain_errors.NotFoundError, domain_errors.ForbiddenError, domain_errors.ConflictError,
    domain_errors.IllegalTransitionError, domain_errors.RefusedError, domain_errors.UnavailableError, ForgeryError,
]  # fmt: skip
EXPECTED = [422, 404, 403, 409, 409, 409, 503, 403]


@pytest.fixture
def trial(site: PortalSite, client_of) -> TestClient:
    """A manager on a portal that has a few pages only for these tests."""
    router = page_router()

    @router.get("/trial/error/{number}")
    @router.get("/api/v1/trial/error/{number}")
    def fail(page: AnyPage, number: int) -> Response:
        raise KINDS[number]("There is no ticket {id}", id=number)

    @router.get("/trial/crash")
    def crash(page: AnyPage) -> Response:
        raise ZeroDivisionError("the secret sauce")

    @router.post("/trial/go")
    def go(page: Annotated[Page, require(Permission.LOGGED_IN)]) -> Response:
        return page.go("/board", Message("There is no machine {serial}", serial="<b>SM</b>"), tone="bad")

    @router.get("/trial/tickets/{ticket_id}")
    def ticket(page: Annotated[Page, require(Permission.SEE_TICKETS)], ticket_id: int) -> Response:
        with page.read() as session:
            return Response(page.ticket(session, ticket_id).state)

    site.app.include_router(router)
    client: TestClient = client_of(Role.MANAGER)
    return client


def test_a_browser_gets_the_page_and_htmx_its_block(client_of) -> None:
    client = client_of(Role.DISPATCHER)
    whole, block = client.get("/board").text, client.get("/board", headers=HTMX).text
    assert whole.startswith("<!doctype html>")
    assert 'id="board-live"' in whole
    assert "<html" not in block
    assert "sidebar" not in block
    assert "sidebar" in whole
    assert block.strip() in whole  # one template, one view: nothing but what the page shows


def test_htmx_gets_the_content_where_its_target_has_no_block_of_its_own(client_of) -> None:
    block = client_of(Role.DISPATCHER).get("/board", headers={**HTMX, "HX-Target": "main#content"}).text
    assert "<html" not in block
    assert 'class="filters"' in block
    assert "<title>工单看板 · brewair</title>" in block


@pytest.mark.parametrize("extra", [{"HX-History-Restore-Request": "true"}, {"HX-Request-Type": "full"}])
def test_restored_history_and_full_requests_get_the_page(client_of, extra: dict[str, str]) -> None:
    assert client_of(Role.DISPATCHER).get("/board", headers={**HTMX, **extra}).text.startswith("<!doctype html>")


@pytest.mark.parametrize("path", ["/login", "/board", "/nothing", "/trial/crash", "/healthz", "/trial/error/0"])
def test_every_answer_is_told_apart_and_kept_by_nobody(trial: TestClient, path: str) -> None:
    headers = trial.get(path).headers
    assert {"HX-Request", "HX-Target", "Cookie"} <= {part.strip() for part in headers["vary"].split(",")}
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/login", "/board", "/nothing", "/trial/crash", "/static/site.css"])
def test_the_content_policy_lets_no_inline_code_in(trial: TestClient, path: str) -> None:
    headers = trial.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/login", "/board", "/gallery", "/account", "/nothing"])
def test_no_page_has_inline_code(client_of, path: str) -> None:
    page = client_of(Role.QA).get(path).text
    for inline in ("<style", " style=", "javascript:", " onclick=", " onload=", "hx-on"):
        assert inline not in page
    assert "<script>" not in page


@pytest.mark.parametrize(("kind", "status"), list(zip(KINDS, EXPECTED, strict=True)), ids=lambda v: str(v))
def test_each_error_has_one_status_and_three_faces(trial: TestClient, kind: type[Exception], status: int) -> None:
    number = KINDS.index(kind)
    page = trial.get(f"/trial/error/{number}")
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert f"没有工单 {number}" in page.text
    toast = trial.get(f"/trial/error/{number}", headers=HTMX)
    assert toast.status_code == status
    assert toast.text.startswith('<hx-partial hx-target="#toasts"')
    assert "tone-bad" in toast.text
    problem = trial.get(f"/api/v1/trial/error/{number}")
    assert problem.headers["content-type"] == "application/problem+json"
    body = problem.json()
    assert body["status"] == problem.status_code == status
    assert body["type"].startswith("/problems/")
    assert body["detail"] == f"There is no ticket {number}"


def test_a_store_that_is_away_says_when_to_come_back(trial: TestClient) -> None:
    assert trial.get(f"/trial/error/{KINDS.index(UnavailableError)}").headers["retry-after"] == "1"


def test_the_types_of_problems_are_stable() -> None:
    assert problem_type(InvalidError("x")) == "/problems/invalid"
    assert problem_type(domain_errors.IllegalTransitionError("x")) == "/problems/illegal-transition"
    assert problem_type(TooManyAttemptsError("x", retry_after=1)) == "/problems/too-many-attempts"


def test_every_expected_error_has_a_status() -> None:
    def leaves(kind: type[Exception]) -> list[type[Exception]]:
        return [kind, *(leaf for inner in kind.__subclasses__() for leaf in leaves(inner))]

    for kind in leaves(RefusedError):
        assert any(issubclass(kind, known) for known, _status in STATUS)
    assert status_of(LogInNeededError("x")) == 401


def test_an_unexpected_error_shows_a_number_and_no_trace(trial: TestClient) -> None:
    page = trial.get("/trial/crash")
    assert page.status_code == 500
    assert "问题已记录，编号" in page.text
    for leak in ("Traceback", "ZeroDivisionError", "secret sauce", "test_answers"):
        assert leak not in page.text


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nothing", "GET", 404), ("/board", "PUT", 405), ("/trial/error/x", "GET", 404)]
)
def test_addresses_that_are_none_get_a_page_too(trial: TestClient, path: str, method: str, status: int) -> None:
    page = trial.request(method, path)
    assert page.status_code == status
    assert "返回首页" in page.text


def test_after_a_command_a_browser_is_led_on_and_told_once(trial: TestClient) -> None:
    csrf = token_in(trial.get("/account"))
    led = trial.post("/trial/go", data={"csrf": csrf}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/board")
    first = trial.get("/board").text
    assert "没有设备 &lt;b&gt;SM&lt;/b&gt;" in first
    assert "没有设备" not in trial.get("/board").text


def test_after_a_command_htmx_loads_the_next_page_into_the_content(trial: TestClient) -> None:
    csrf = token_in(trial.get("/account"))
    led = trial.post("/trial/go", headers={**HTMX, "X-CSRF-Token": csrf})
    assert led.status_code == 200
    assert '"path": "/board"' in led.headers["hx-location"]
    assert "没有设备" in trial.get("/board", headers={**HTMX, "HX-Target": "main#content"}).text


def test_a_notice_that_somebody_wrote_into_the_cookie_is_not_shown(trial: TestClient) -> None:
    trial.cookies.set("notice", "0" * 64 + ".WyJnb29kIiwiU2F2ZWQiLHt9XQ==")
    assert "已保存" not in trial.get("/board").text


def test_a_stranger_s_htmx_request_loads_the_log_in_page_as_a_page(anonymous: TestClient) -> None:
    answer = anonymous.get("/board", headers=HTMX)
    assert answer.headers["hx-redirect"] == "/login"


def test_a_technician_sees_own_tickets_and_finds_no_other(trial: TestClient, client_of, site: PortalSite) -> None:
    technician = client_of(Role.TECHNICIAN)
    states = list(State)
    own, other = states.index(State.REPAIRING) + 1, states.index(State.READY) + 1
    assert technician.get(f"/trial/tickets/{own}").text == "repairing"
    hidden, absent = technician.get(f"/trial/tickets/{other}"), technician.get("/trial/tickets/999")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text.replace(str(other), "999") == absent.text.replace(str(other), "999")
    assert trial.get(f"/trial/tickets/{other}").text == "ready"


def test_the_language_is_chinese_unless_chosen(anonymous: TestClient) -> None:
    assert '<html lang="zh-Hans-CN">' in anonymous.get("/login").text
    english = anonymous.get("/login?lang=en").text
    assert '<html lang="en">' in english
    assert "A repair is done when the machine says so" in english
    assert '<html lang="en">' in anonymous.get("/login").text  # the choice is kept
    assert '<html lang="en">' in anonymous.get("/login?lang=tlh").text


def test_the_setting_gives_the_first_language(tmp_path) -> None:
    from tests.portal_site import build

    with TestClient(build(tmp_path, locale="en").app) as client:
        assert '<html lang="en">' in client.get("/login").text


def test_static_files_are_kept_for_ever_under_their_digest_only(anonymous: TestClient, site: PortalSite) -> None:
    current = site.app.state.portal.renderer.assets.url("site.css")
    assert "immutable" in anonymous.get(current).headers["cache-control"]
    assert anonymous.get("/static/site.css?v=old").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "nothing.css", "", "vendor"])
def test_only_static_files_are_served(anonymous: TestClient, name: str) -> None:
    assert anonymous.get(f"/static/{name}").status_code == 404


def test_probes(anonymous: TestClient) -> None:
    assert anonymous.get("/healthz").json() == {"status": "ok"}
    assert anonymous.get("/readyz").json() == {"database": "ok", "telemetry": "ok"}
