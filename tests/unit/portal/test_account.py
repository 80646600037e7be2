"""One's own password, in the portal: who may change it, what ends, what is written down, what never comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select

from domain.store.tables import Journal, LoginSession, Person
from domain.tickets.states import Role
from portal.auth import ATTEMPTS_PER_ACCOUNT
from tests.portal_site import PASSWORD, PortalSite, log_in, token_in

NEW = "fresh-air-for-everybody"


def change(client: TestClient, current: str = PASSWORD, password: str = NEW, again: str | None = None) -> Response:
    csrf = token_in(client.get("/account"))
    sent = {"csrf": csrf, "current": current, "password": password, "again": password if again is None else again}
    return client.post("/account/password", data=sent, follow_redirects=False)


def test_everybody_changes_their_own_password_and_stays_logged_in_here_only(
    client_of: Callable[[Role], TestClient], anonymous: TestClient, site: PortalSite
) -> None:
    mine = client_of(Role.TECHNICIAN)
    before = mine.cookies.get("brewair")
    assert log_in(anonymous, "technician").status_code == 303  # a second device
    done = change(mine)
    assert (done.status_code, done.headers["location"]) == (303, "/account")
    assert mine.get("/account", follow_redirects=False).status_code == 200
    assert mine.cookies.get("brewair") != before
    assert anonymous.get("/account", follow_redirects=False).status_code != 200
    with site.sessions.read() as session:
        person = session.get_one(Person, site.people[Role.TECHNICIAN])
        assert person.password_hash.startswith("$argon2id$")
        assert len(session.scalars(select(LoginSession).where(LoginSession.person_id == person.id)).all()) == 1
        told = session.scalars(select(Journal).where(Journal.action == "password_set")).all()
        assert [(row.actor_id, row.detail) for row in told] == [(person.id, {"id": person.id})]
    assert log_in(anonymous, "technician").status_code == 422
    assert log_in(anonymous, "technician", NEW).status_code == 303


@pytest.mark.parametrize(
    ("current", "password", "again", "said"),
    [
        ("wrong", NEW, NEW, "当前密码不正确"),
        ("", NEW, NEW, "当前密码不正确"),
        (PASSWORD, NEW, NEW + "x", "两次输入的新密码不一致"),
        (PASSWORD, "short", "short", "10"),
        (PASSWORD, PASSWORD, PASSWORD, "新密码与当前密码相同"),
        (PASSWORD, "x" * 201, "x" * 201, "200"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_changes(
    client_of: Callable[[Role], TestClient], anonymous: TestClient, current: str, password: str, again: str, said: str
) -> None:
    refused = change(client_of(Role.DEALER), current, password, again)
    assert refused.status_code == 422
    assert said in refused.text
    for typed in {current, password, again} - {""}:
        assert f'value="{typed}"' not in refused.text
    assert log_in(anonymous, "dealer").status_code == 303


def test_guessing_the_present_password_is_limited(client_of: Callable[[Role], TestClient]) -> None:
    client = client_of(Role.QA)
    for _ in range(ATTEMPTS_PER_ACCOUNT):
        assert change(client, "wrong").status_code == 422
    assert change(client).status_code == 429  # the right one, too late


def test_a_form_without_its_token_changes_nothing(
    client_of: Callable[[Role], TestClient], anonymous: TestClient
) -> None:
    sent = {"current": PASSWORD, "password": NEW, "again": NEW}
    assert client_of(Role.MANAGER).post("/account/password", data=sent).status_code == 403
    assert log_in(anonymous, "manager").status_code == 303


def test_nobody_changes_a_password_without_being_logged_in(anonymous: TestClient) -> None:
    csrf = token_in(anonymous.get("/login"))
    sent = {"csrf": csrf, "current": PASSWORD, "password": NEW, "again": NEW}
    assert anonymous.post("/account/password", data=sent, follow_redirects=False).status_code in (303, 401, 403)
