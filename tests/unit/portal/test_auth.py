"""Log-in: passwords, sessions and their ends, limits on attempts, cookies."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from domain.errors import SettingsError
from domain.store.tables import LoginSession, Person
from domain.tickets.states import Role
from portal.auth import (
    ATTEMPT_WINDOW,
    ATTEMPTS_PER_ACCOUNT,
    ATTEMPTS_PER_ADDRESS,
    IDLE,
    LIFETIME,
    AttemptLimit,
    TooManyAttemptsError,
    hash_password,
    password_fits,
    portal_secret,
)
from portal.pages.login import is_local
from tests.portal_site import PASSWORD, PortalSite, build, log_in, token_in


def logged_in(client: TestClient) -> bool:
    return client.get("/account", follow_redirects=False).status_code == 200


def test_the_right_password_opens_a_session(anonymous: TestClient, site: PortalSite) -> None:
    answer = log_in(anonymous, "dispatcher")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert logged_in(anonymous)
    with site.sessions.read() as session:
        (kept,) = session.query(LoginSession).all()
    token = anonymous.cookies["brewair"]
    assert token not in (kept.token_hash, kept.csrf)  # the database alone opens no session


@pytest.mark.parametrize(("login", "password"), [("dispatcher", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_a_wrong_name_and_a_wrong_password_look_alike(anonymous: TestClient, login: str, password: str) -> None:
    answer = log_in(anonymous, login, password)
    assert answer.status_code == 422
    assert "用户名或密码不正确" in answer.text
    assert 'id="f-password-error"' in answer.text  # beside the field
    assert password not in answer.text or not password
    assert not logged_in(anonymous)


def test_an_inactive_account_and_one_without_a_password_cannot_log_in(anonymous: TestClient, site: PortalSite) -> None:
    with site.sessions.command() as session:
        session.get_one(Person, site.people[Role.QA]).active = False
        session.get_one(Person, site.people[Role.MANAGER]).password_hash = ""
    assert log_in(anonymous, "qa").status_code == 422
    assert log_in(anonymous, "manager").status_code == 422


def test_deactivation_ends_a_session_at_once(client_of, site: PortalSite) -> None:
    client = client_of(Role.QA)
    with site.sessions.command() as session:
        session.get_one(Person, site.people[Role.QA]).active = False
    assert not logged_in(client)


def test_log_out_ends_the_session_on_the_server(client_of, site: PortalSite) -> None:
    client = client_of(Role.QA)
    token = client.cookies["brewair"]
    client.post("/logout", data={"csrf": token_in(client.get("/account"))})
    client.cookies.set("brewair", token)
    assert not logged_in(client)


def test_a_session_ends_when_nobody_uses_it(client_of, site: PortalSite) -> None:
    client = client_of(Role.QA)
    site.wall.advance(IDLE - timedelta(minutes=1))
    assert logged_in(client)  # and so it was used
    site.wall.advance(IDLE - timedelta(minutes=1))
    assert logged_in(client)
    site.wall.advance(IDLE)
    assert not logged_in(client)


def test_a_session_ends_at_its_lifetime_however_busy(client_of, site: PortalSite) -> None:
    client = client_of(Role.QA)
    for _ in range(int(LIFETIME / timedelta(hours=6)) - 1):
        site.wall.advance(timedelta(hours=6))
        assert logged_in(client)
    site.wall.advance(timedelta(hours=6))
    assert not logged_in(client)


def test_logging_in_again_ends_the_browser_s_earlier_session(client_of, site: PortalSite) -> None:
    client = client_of(Role.QA)
    first = client.cookies["brewair"]
    csrf = token_in(client.get("/login"))
    client.post("/login", data={"login": "manager", "password": PASSWORD, "csrf": csrf})
    assert client.cookies["brewair"] != first
    with site.sessions.read() as session:
        assert [row.person_id for row in session.query(LoginSession)] == [site.people[Role.MANAGER]]


def test_an_account_is_closed_for_a_while_after_too_many_failures(anonymous: TestClient, site: PortalSite) -> None:
    for _ in range(ATTEMPTS_PER_ACCOUNT):
        assert log_in(anonymous, "Dispatcher", "wrong").status_code == 422
    refused = log_in(anonymous, "dispatcher")  # the right password, spelled otherwise: still closed
    assert refused.status_code == 429
    assert log_in(anonymous, "manager").status_code == 303  # others are not
    site.wall.advance(ATTEMPT_WINDOW)
    assert log_in(anonymous, "dispatcher").status_code == 303


def test_an_address_is_closed_after_too_many_failures_over_many_accounts() -> None:
    now = [0.0]
    limit = AttemptLimit(ATTEMPTS_PER_ADDRESS, ATTEMPT_WINDOW, lambda: now[0])
    for _ in range(ATTEMPTS_PER_ADDRESS):
        limit.count("10.0.0.9")
    with pytest.raises(TooManyAttemptsError) as refused:
        limit.count("10.0.0.9")
    assert refused.value.retry_after == ATTEMPT_WINDOW.total_seconds()
    limit.count("10.0.0.10")
    limit.forget("10.0.0.9")
    limit.count("10.0.0.9")


def test_the_limit_forgets_the_oldest_keys_so_that_it_cannot_grow() -> None:
    limit = AttemptLimit(1, ATTEMPT_WINDOW, lambda: 0.0, capacity=3)
    for number in range(10):
        limit.count(str(number))
    limit.count("0")  # forgotten
    with pytest.raises(TooManyAttemptsError):
        limit.count("9")


@pytest.mark.parametrize(
    ("public_url", "name", "secure"), [("", "brewair", False), ("https://service.example", "__Host-brewair", True)]
)
def test_the_cookie_cannot_be_read_by_scripts_or_sent_by_other_sites(
    tmp_path: Path, public_url: str, name: str, secure: bool
) -> None:
    site = build(tmp_path, public_url=public_url)
    with TestClient(site.app, base_url="https://testserver") as client:
        cookie = next(c for c in log_in(client, "qa").headers.get_list("set-cookie") if c.startswith(f"{name}="))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert ("Secure" in cookie) == secure
        assert ("strict-transport-security" in client.get("/login").headers) == secure


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/board?q=1", True),
        ("//evil.example", False),
        ("/\\evil", False),
        ("https://evil", False),
        ("", False),
        ("/a\n", False),
    ],
)
def test_log_in_leads_on_to_local_pages_only(path: str, local: bool) -> None:
    assert is_local(path) == local


def test_log_in_returns_to_the_page_that_was_asked_for(anonymous: TestClient) -> None:
    asked = anonymous.get("/board?region=华东", follow_redirects=False)
    form = anonymous.get(asked.headers["location"])
    assert 'name="next" value="/board?region=' in form.text
    data = {
        "login": "manager",
        "password": PASSWORD,
        "csrf": token_in(form),
        "next": "/board?region=%E5%8D%8E%E4%B8%9C",
    }
    assert anonymous.post("/login", data=data).url.path == "/board"
    data = {**data, "next": "//evil.example", "csrf": token_in(anonymous.get("/login"))}
    assert anonymous.post("/login", data=data, follow_redirects=False).headers["location"] == "/"


def test_log_in_needs_the_token_of_its_own_browser(site: PortalSite, anonymous: TestClient) -> None:
    with TestClient(site.app) as other:
        foreign = token_in(other.get("/login"))
    anonymous.get("/login")
    data = {"login": "manager", "password": PASSWORD, "csrf": foreign}
    assert anonymous.post("/login", data=data).status_code == 403


def test_password_hashes_are_argon2id_and_fit_only_their_password() -> None:
    hashed = hash_password("豆浆")
    assert hashed.startswith("$argon2id$")
    assert password_fits(hashed, "豆浆")
    assert not password_fits(hashed, "豆漿")
    assert not password_fits("", "豆浆")


def test_the_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    first = portal_secret(path)
    assert portal_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(SettingsError, match="BREWAIR_SECRET_FILE"):
        portal_secret(path)
