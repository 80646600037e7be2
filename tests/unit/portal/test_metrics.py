"""The portal's figures: what was answered by route, and how many tickets wait where; never on the portal's own address."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from domain.errors import UnavailableError
from domain.metrics import registry_of
from domain.tickets.states import TERMINAL, Role, State
from portal.metrics import Requests
from tests.portal_site import PortalSite, log_in


def figures(site: PortalSite) -> dict[tuple[str, ...], float]:
    """(sample, label values …) → value."""
    requests: Requests = site.app.state.requests
    text = generate_latest(registry_of(lambda: requests.look(site.sessions))).decode()
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_are_counted_by_route_template_and_paths_of_strangers_are_not_kept(
    site: PortalSite, anonymous: TestClient
) -> None:
    log_in(anonymous, Role.DISPATCHER.value)
    for number in (1, 2):
        assert anonymous.get(f"/tickets/{number}").status_code == 200
    for made_up in ("/wp-admin.php", "/x/y/z"):
        assert anonymous.get(made_up).status_code == 404
    found = figures(site)
    assert found["brewair_portal_requests_total", "GET", "/tickets/{ticket_id}", "200"] == 2
    assert found["brewair_portal_requests_total", "GET", "none", "404"] == 2
    assert not any("wp-admin" in label for key in found for label in key)


def test_open_tickets_by_state_with_a_zero_where_there_are_none(site: PortalSite) -> None:
    states = {key[1]: value for key, value in figures(site).items() if key[0] == "brewair_open_tickets"}
    assert states.keys() == {state.value for state in State if state not in TERMINAL}
    assert states["ready"] >= 1


def test_without_sql_the_requests_are_still_there(site: PortalSite, anonymous: TestClient) -> None:
    class Away:
        def read(self) -> None:
            raise UnavailableError("away")

    anonymous.get("/healthz")
    requests: Requests = site.app.state.requests
    names = {metric.name for metric in requests.look(Away())}  # type: ignore[arg-type]
    assert names == {"brewair_portal_requests"}


def test_the_portal_itself_shows_no_figures(anonymous: TestClient) -> None:
    assert anonymous.get("/metrics").status_code == 404
