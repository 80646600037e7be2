"""The story of a repair in a real browser, with JavaScript and without: from the assignment to the closed ticket."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from domain.tickets.states import Action, State
from tests.portal_site import PASSWORD
from tests.servers import free_port, wait_until
from tests.service_site import ServiceSite, a_morning, build, healthy, idle, one_element_lost

pytestmark = pytest.mark.browser
PHONE = {"width": 360, "height": 780}
DESKTOP = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def browser(chromium_path: Path) -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium_path), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def site(tmp_path: Path) -> ServiceSite:
    """An organisation without a ticket."""
    return build(tmp_path)


@pytest.fixture
def address(site: ServiceSite) -> Iterator[str]:
    """Its portal, served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(site.app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="the portal")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


def page_of(browser: Browser, address: str, login: str, size: dict[str, int], *, scripts: bool = True) -> Page:
    """A new browser window, logged in."""
    page = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]}, locale="zh-CN", java_script_enabled=scripts
    ).new_page()
    page.set_default_timeout(15_000)
    page.goto(f"{address}/login")
    page.fill("[name=login]", login)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def press(page: Page, name: str) -> None:
    """Press the one primary button of the page, which must be in reach of a thumb without scrolling."""
    button = page.locator(".do-bar button")
    expect(button).to_have_count(1)
    expect(button).to_contain_text(name)
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 48
    assert 0 <= box["y"] <= PHONE["height"] - box["height"]
    button.click()


def record_repair(page: Page, measure: str) -> None:
    """Fault, cause and measure by code."""
    page.select_option("[name=fault]", label="煮得特别慢")
    page.select_option("[name=cause]", label="加热管断")
    page.select_option("[name=measure]", label=measure)
    press(page, "维修完成，开始试机")


@pytest.mark.parametrize("scripts", [True, False], ids=["with-javascript", "without-javascript"])
def test_from_the_list_of_the_dispatcher_to_a_closed_ticket(
    browser: Browser, site: ServiceSite, address: str, scripts: bool
) -> None:
    ticket = site.finding("SM-2041", "R03", "heating", "element_lost", pn=1480.0, heat_ref_w=2190.0)
    office = page_of(browser, address, "dispatcher", DESKTOP, scripts=scripts)
    office.goto(f"{address}/dispatch")
    office.locator(f"#row-{ticket}").get_by_role("button", name="派给").click()
    expect(office.locator("#unaccepted")).to_contain_text("1 号豆浆机")
    who = next(login for login, number in site.people.items() if number == site.ticket(ticket).assignee_id)

    phone = page_of(browser, address, who, PHONE, scripts=scripts)
    phone.goto(f"{address}/today")
    for name in ("接单", "出发", "到达现场"):
        press(phone, name)
    expect(phone.locator(".job-now")).to_contain_text("维修中")
    record_repair(phone, "修复加热线路")
    expect(phone.locator(".run-panel")).to_contain_text("等待设备数据")

    # the first run fails: the repair was not complete
    site.measure(ticket, one_element_lost())
    if not scripts:
        phone.reload()
    expect(phone.locator(".run-panel")).to_contain_text("不合格")
    expect(phone.locator('[data-state="fail"]').first).to_contain_text("加热功率")
    expect(phone.locator(".job-now")).to_contain_text("维修中")
    record_repair(phone, "更换加热管")

    # while the second is measured, the panel follows by itself, or by a press on 'refresh'
    site.measure(ticket, healthy(), seconds=600)
    if not scripts:
        phone.get_by_role("link", name="刷新").click()
    expect(phone.locator(".run-panel .ring")).to_have_attribute("aria-label", "净运行时间 9:35 / 15:00")
    expect(phone.locator('.criterion[data-state="pass"]').first).to_be_visible()
    assert phone.locator(".do-bar button").count() == 0

    site.measure(ticket, [r for r in healthy() if r.seq is not None and r.seq > 120])
    if not scripts:
        phone.reload()
    wait_until(lambda: site.ticket(ticket).state in (State.VERIFIED, State.TESTING), what="a verdict")
    if site.ticket(ticket).state == State.TESTING:
        pytest.fail(f"no verdict: {site.runs(ticket)[0].progress.get('reasons')}")
    press(phone, "结单")
    expect(phone.locator(".jobs-done")).to_contain_text("已完成")
    assert site.ticket(ticket).state == State.CLOSED


def test_a_form_in_use_is_not_taken_away_and_says_that_the_ticket_has_changed(
    browser: Browser, site: ServiceSite, address: str
) -> None:
    ticket = site.finding("SM-2041", "R03", "heating", "element_lost", pn=1480.0, heat_ref_w=2190.0)
    page = page_of(browser, address, "dispatcher", DESKTOP)
    page.goto(f"{address}/tickets/{ticket}")
    expect(page.locator("body")).to_have_attribute("data-live", "on")
    page.get_by_text("时限延至48小时").first.click()
    page.locator("#extend_deadline-reason").fill("等客户腾出厨房")
    site.finding("SM-2041", "R11", "heating", "false_boil", 1, hold_s=120.0)
    expect(page.locator("#ticket_live")).to_contain_text("煮沸时间不够")
    expect(page.locator("#ticket_side [data-stale]")).to_be_hidden()
    site.do("manager", Action.EXTEND_DEADLINE, ticket)
    expect(page.locator("#ticket_live")).to_contain_text("48小时")
    expect(page.locator("#ticket_side [data-stale]")).to_be_visible()
    expect(page.locator("#extend_deadline-reason")).to_have_value("等客户腾出厨房")


def test_the_ring_counts_on_between_two_answers(browser: Browser, site: ServiceSite, address: str) -> None:
    ticket = site.finding("SM-2041", "R03", "heating", "element_lost", pn=1480.0, heat_ref_w=2190.0)
    site.to("limin", ticket, Action.ACCEPT, Action.ARRIVE, Action.FINISH_REPAIR)
    site.measure(ticket, healthy(), seconds=300)
    page = page_of(browser, address, "limin", DESKTOP)
    page.goto(f"{address}/tickets/{ticket}")
    ring = page.locator("[data-ring]")
    left = float(ring.get_attribute("data-ring") or 0)
    assert left > 60
    said = f"{int(left // 60)}:{int(left % 60):02d}"
    expect(ring.locator("b")).not_to_have_text(said)
    # a silent machine adds nothing: the ring stands at what the server said
    page.evaluate("""() => { const ring = document.querySelector("[data-ring]"); ring.dataset.ahead = "0"; }""")
    expect(ring.locator("b")).to_have_text(said)


def test_charts_are_drawn_and_another_range_needs_no_new_page(
    browser: Browser, site: ServiceSite, address: str
) -> None:
    ticket = site.finding("FA-0101", "R20", "filter", "leak", 3, eta=0.61)
    idle(site, "FA-0101")
    page = page_of(browser, address, "dispatcher", DESKTOP)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("console", lambda said: broken.append(said.text) if said.type == "error" else None)
    page.goto(f"{address}/tickets/{ticket}")
    expect(page.locator(".chart-panel canvas")).to_have_count(6)
    expect(page.locator(".chart-panel").first).to_contain_text("PM2.5")
    with page.expect_response(lambda answer: "minutes=15" in answer.url):
        page.get_by_role("link", name="15分").click()
    expect(page.locator(".ranges [aria-current]")).to_have_text("15分")
    assert not broken


def test_the_list_narrows_as_one_chooses(browser: Browser, site: ServiceSite, address: str) -> None:
    site.finding("SM-2041", "R03", "heating", "element_lost")
    site.finding("FA-0101", "R20", "filter", "leak", 3)
    page = page_of(browser, address, "dispatcher", DESKTOP)
    page.goto(f"{address}/dispatch")
    expect(page.locator(".job-row")).to_have_count(2)
    page.select_option("[name=type]", "freshair")
    expect(page.locator(".job-row")).to_have_count(1)
    expect(page).to_have_url(re.compile("type=freshair"))
    page.get_by_role("button", name="派给").click()
    expect(page).to_have_url(re.compile("type=freshair"))
    expect(page.locator("#unaccepted .job-row")).to_have_count(1)


def test_no_page_is_wider_than_a_phone_or_has_small_buttons(browser: Browser, site: ServiceSite, address: str) -> None:
    story = a_morning(site)
    run = site.runs(story.testing)[0]
    for login, paths in (
        ("limin", ("/today", f"/today?job={story.offered}", f"/tickets/{story.testing}", f"/runs/{run.id}")),
        ("liuyang", ("/today",)),
        ("dispatcher", ("/dispatch", f"/tickets/{story.testing}", "/notices")),
    ):
        page = page_of(browser, address, login, PHONE)
        for path in paths:
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            small = page.evaluate(
                "[...document.querySelectorAll('main .btn, main select, main input:not([type=hidden]):not([type=checkbox])"
                ":not([type=radio])')].filter(e => e.offsetParent && e.getBoundingClientRect().height < 44)"
                ".map(e => e.outerHTML.slice(0, 90))"
            )
            assert not small, path
