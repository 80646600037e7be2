"""Every route as every role: the rights table decides, and no unsafe request passes without its form token."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from domain.tickets.states import Role
from portal.app import routes
from portal.deps import SAFE_METHODS, PageRoute, Require
from portal.permissions import PERMISSIONS, Permission, permissions_of
from tests.portal_site import ROLES, PortalSite, token_in

PUBLIC = {("GET", "/login"), ("POST", "/login")}
STREAMS = {"/live"}
"""Endless answers: who may not read them is tested here, what they say in test_live.py."""

EXAMPLES = {
    "ticket_id": "10",
    "serial": "SM-0001",
    "site_id": "1",
    "customer_id": "1",
    "person_id": "1",
    "action": "assign",
    "run_id": "1",
    "notice_id": "1",
    "quarantine_id": "1",
    "stranger_id": "1",
    "row_id": "1",
    "what": "equipment",
}
"""A value for every path parameter of any page."""


BY_PATH = {"/import": Permission.EDIT_EQUIPMENT}
"""First part of a path → the right that the page itself asks for, by what stands further on; without it nothing is there."""


def permission_of(route: APIRoute) -> Permission | None:
    """The right that a route asks for."""

    def walk(dependant: Dependant) -> Iterator[Permission]:
        if isinstance(dependant.call, Require):
            yield dependant.call.permission
        for inner in dependant.dependencies:
            yield from walk(inner)

    return BY_PATH.get(first_part(route)) or next(walk(route.dependant), None)


def first_part(route: APIRoute) -> str:
    """``/import`` of ``/import/{what}/run``."""
    return "/" + route.path.split("/")[1]


CASES = [(method, route) for route in routes() for method in sorted(route.methods or ()) if method != "HEAD"]
NAMES = [f"{method} {route.path}" for method, route in CASES]


def address(route: APIRoute) -> str:
    """The route's path with example values."""
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: EXAMPLES[found[1]], route.path)


@pytest.mark.parametrize(("method", "route"), CASES, ids=NAMES)
def test_every_route_asks_for_a_right_or_is_public(method: str, route: APIRoute) -> None:
    assert isinstance(route, PageRoute)
    assert (permission_of(route) is None) == ((method, route.path) in PUBLIC)


def test_a_stranger_is_sent_to_the_log_in_page(anonymous: TestClient) -> None:
    for method, route in CASES:
        if (method, route.path) in PUBLIC:
            continue
        page = anonymous.request(method, address(route), follow_redirects=False)
        if method in SAFE_METHODS:
            assert page.status_code == 303, route.path
            assert page.headers["location"].startswith("/login"), route.path
        else:
            assert page.status_code == 403, route.path  # no session, no token


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_what_its_rights_name_and_nothing_else(role: Role, site: PortalSite, client_of) -> None:
    client, granted = client_of(role), permissions_of([role.value])
    csrf = token_in(client.get("/account"))
    for method, route in CASES:
        permission = permission_of(route)
        if permission is None or route.path == "/logout":
            continue
        allowed, refusal = permission in granted, 404 if first_part(route) in BY_PATH else 403
        if allowed and route.path in STREAMS:
            continue
        headers = {} if method in SAFE_METHODS else {"X-CSRF-Token": csrf}
        page = client.request(method, address(route), headers=headers, follow_redirects=False)
        if allowed:
            assert page.status_code not in (401, refusal), (role, method, route.path)
            assert page.status_code < 500, (role, method, route.path)
        else:
            assert page.status_code == refusal, (role, method, route.path)


@pytest.mark.parametrize("role", ROLES)
def test_no_unsafe_request_passes_without_its_token(role: Role, client_of) -> None:
    client = client_of(role)
    for method, route in CASES:
        if method not in SAFE_METHODS:
            for headers in ({}, {"X-CSRF-Token": "guessed"}):
                page = client.request(method, address(route), headers=headers, follow_redirects=False)
                assert page.status_code == 403, (method, route.path)
    assert client.get("/account").status_code == 200  # still logged in: the log-out was refused too


def test_the_token_of_another_session_is_refused(client_of) -> None:
    foreign = token_in(client_of(Role.MANAGER).get("/account"))
    assert client_of(Role.ADMIN).post("/logout", data={"csrf": foreign}).status_code == 403


def test_a_form_sent_from_another_site_is_refused_even_with_the_token(client_of) -> None:
    client = client_of(Role.ADMIN)
    csrf = token_in(client.get("/account"))
    page = client.post("/logout", data={"csrf": csrf}, headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 403


def test_the_rights_table_names_every_role_of_staff() -> None:
    assert set(PERMISSIONS) == set(ROLES)
    assert all(Permission.LOGGED_IN in granted for granted in PERMISSIONS.values())
    assert permissions_of(["technician", "no such role"]) == PERMISSIONS[Role.TECHNICIAN]


def test_the_administrator_does_not_read_customer_data_freely() -> None:
    kept = {Permission.SEE_CUSTOMERS, Permission.SEE_TICKETS, Permission.UNMASK_PHONE}
    assert not kept & PERMISSIONS[Role.ADMIN]


@pytest.mark.parametrize("role", ROLES)
def test_after_log_in_everybody_lands_on_a_page_that_is_theirs(role: Role, client_of) -> None:
    page = client_of(role).get("/")
    assert page.status_code == 200
    assert page.url.path != "/login"


@pytest.mark.parametrize("role", ROLES)
def test_the_navigation_leads_only_to_pages_that_open(role: Role, client_of) -> None:
    client = client_of(role)
    page = client.get("/account").text
    for path in set(re.findall(r'class="nav-entry" href="([^"]+)"', page)):
        assert client.get(path).status_code == 200, path
