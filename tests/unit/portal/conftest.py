"""A seeded portal, and browsers without JavaScript logged in as any role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from domain.tickets.states import Role
from tests.portal_site import PortalSite, build, log_in

ClientOf = Callable[[Role], TestClient]


@pytest.fixture
def site(tmp_path: Path) -> PortalSite:
    """A portal of this test's own."""
    return build(tmp_path)


@pytest.fixture
def anonymous(site: PortalSite) -> Iterator[TestClient]:
    """Somebody who is not logged in."""
    with TestClient(site.app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client_of(site: PortalSite) -> Iterator[ClientOf]:
    """Gives a client that is logged in as a role; the same one when asked again."""
    with ExitStack() as stack:
        clients: dict[Role, TestClient] = {}

        def client(role: Role) -> TestClient:
            if role not in clients:
                clients[role] = stack.enter_context(TestClient(site.app, raise_server_exceptions=False))
                assert log_in(clients[role], role.value).status_code == 303
            return clients[role]

        yield client
