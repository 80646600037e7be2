"""A dealer reads what belongs to its own customers, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from domain.store.tables import Customer, Equipment, Journal, Person, Site, Ticket
from domain.tickets.states import Role
from tests.portal_site import NOW, PortalSite, log_in, password_hash, token_in

ClientOf = Callable[[Role], TestClient]


@pytest.fixture
def entrusted(site: PortalSite) -> PortalSite:
    """The seeded customer is the dealer's; another one, with a machine and a ticket, is somebody else's."""
    with site.sessions.command() as session:
        session.scalars(select(Customer)).one().dealer_id = site.people[Role.DEALER]
        rival = Person(
            login="rival", name="华南经销", roles=["dealer"], skills=[], password_hash=password_hash(), created_at=NOW
        )
        other = Customer(name="别家餐饮", contact="别家经理", phone="13712345678", created_at=NOW)
        at = Site(customer=other, name="别家一店", region="华东", created_at=NOW)
        session.add_all([rival, other, at])
        session.flush()
        session.add(Equipment(serial="ZZ-9", type="soymilk", model="SMM-60", site_id=at.id, created_at=NOW))
        session.flush()
        session.add(
            Ticket(
                kind="repair", state="ready", source="telemetry", serial="ZZ-9", site_id=at.id, customer_id=other.id,
                family="heating", opened_at=NOW, due_at=NOW,
            )
        )  # fmt: skip
    return site


def test_a_dealer_sees_sites_machines_and_tickets_of_its_own_customers_alone(
    entrusted: PortalSite, client_of: ClientOf
) -> None:
    page = client_of(Role.DEALER).get("/dealer")
    assert page.status_code == 200
    for seen in ("永和餐饮", "孙经理", "139****5678", "实验小学食堂", "SM-0001", "FA-0103", "安排中", "已完成"):
        assert seen in page.text, seen
    for hidden in ("13912345678", "别家", "ZZ-9", "待派工", "/tickets/", "/equipment/"):
        assert hidden not in page.text, hidden


def test_a_dealer_without_customers_sees_none(entrusted: PortalSite, anonymous: TestClient) -> None:
    assert log_in(anonymous, "rival").status_code == 303
    page = anonymous.get("/dealer").text
    assert "还没有分配给您的客户" in page
    assert "永和餐饮" not in page


def test_it_is_where_a_dealer_lands_and_all_there_is(entrusted: PortalSite, client_of: ClientOf) -> None:
    dealer = client_of(Role.DEALER)
    assert dealer.get("/", follow_redirects=False).headers["location"] == "/dealer"
    for path in ("/board", "/customers", "/equipment", "/equipment/SM-0001", "/people", "/dispatch", "/tickets/1"):
        assert dealer.get(path, follow_redirects=False).status_code in (403, 404), path


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.DEALER, Role.SYSTEM, Role.CUSTOMER)])
def test_the_page_is_the_dealers(client_of: ClientOf, role: Role) -> None:
    assert client_of(role).get("/dealer", follow_redirects=False).status_code in (403, 404)


def test_the_office_entrusts_a_customer_to_a_dealer_and_it_is_journalled(site: PortalSite, client_of: ClientOf) -> None:
    office, dealer = client_of(Role.OPERATOR), site.people[Role.DEALER]
    with site.sessions.read() as session:
        customer = session.scalars(select(Customer)).one().id
    page = office.get(f"/customers/{customer}/edit")
    assert f'<option value="{dealer}">华东经销</option>' in page.text

    def save(**form: str) -> int:
        sent = {"csrf": token_in(page), "name": "永和餐饮", "contact": "孙经理", "phone": "", "note": "", **form}
        return office.post(f"/customers/{customer}", data=sent, follow_redirects=False).status_code

    def on_record() -> int | None:
        with site.sessions.read() as session:
            return session.get_one(Customer, customer).dealer_id

    assert (save(dealer_id=str(dealer)), on_record()) == (303, dealer)
    assert (save(), on_record()) == (303, dealer)  # a form without the field leaves it
    assert (save(dealer_id=str(site.people[Role.QA])), on_record()) == (422, dealer)
    assert "华东经销" in office.get(f"/customers/{customer}").text
    assert (save(dealer_id=""), on_record()) == (303, None)
    with site.sessions.read() as session:
        told = session.scalars(select(Journal).where(Journal.action == "customer_changed").order_by(Journal.id)).all()
        assert [row.detail["changes"] for row in told] == [{"dealer_id": [None, dealer]}, {"dealer_id": [dealer, None]}]
