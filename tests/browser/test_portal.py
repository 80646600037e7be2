"""Log-in and board in a real Chromium, on a desk and on a phone: what is seen, what is live, what breaks nothing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from domain.clock import ScaledClock
from domain.store.tables import Journal, Ticket
from domain.tickets.states import State
from portal.serve import serve
from tests.portal_site import NOW, PASSWORD, PortalSite, build

pytestmark = pytest.mark.browser
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 740}
READY = list(State).index(State.READY) + 1


@pytest.fixture(scope="module")
def browser(chromium_path: Path) -> Iterator[Browser]:
    """One Chromium for all tests here."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[PortalSite, str]]:
    """A portal with a demo clock, and its address."""
    site = build(tmp_path, ScaledClock(datetime.now(UTC), NOW, 30))
    stop, ready = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=serve, args=(site.app, ("127.0.0.1", 0), stop, ready.put), daemon=True)
    thread.start()
    try:
        yield site, ready.get(timeout=30)
    finally:
        stop.set()
        thread.join(timeout=30)


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that must log no error: a refused script, a missing file or an exception fails the test."""
    context = browser.new_context(viewport=request.param, locale="zh-CN")
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


def log_in(page: Page, address: str, login: str) -> None:
    page.goto(f"{address}/login")
    page.get_by_label("用户名").fill(login)
    page.get_by_label("密码").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()


def nothing_sticks_out(page: Page) -> None:
    """The page is no wider than its window."""
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]


def test_from_log_in_to_a_live_board(page: Page, served: tuple[PortalSite, str]) -> None:
    site, address = served
    page.goto(f"{address}/login")
    nothing_sticks_out(page)
    log_in(page, address, "dispatcher")
    page.goto(f"{address}/board")
    expect(page.get_by_role("heading", name="工单看板")).to_be_visible()
    expect(page.get_by_text("30×")).to_be_visible()
    expect(page.locator(f"#ticket-{READY}")).to_be_visible()
    nothing_sticks_out(page)
    expect(page.locator("body")).to_have_attribute("data-live", "on")
    with site.sessions.command() as session:  # somebody else takes the ticket on
        session.get_one(Ticket, READY).state = State.TESTING.value
        session.add(Journal(at=NOW, ticket_id=READY, actor_name="test", action="assign"))
    expect(page.get_by_role("region", name="试机中").locator(f"#ticket-{READY}")).to_be_visible(timeout=10_000)


def test_a_filter_changes_the_board_and_the_address_without_a_new_page(
    page: Page, served: tuple[PortalSite, str]
) -> None:
    _site, address = served
    log_in(page, address, "dispatcher")
    page.goto(f"{address}/board")
    page.evaluate("window.same = true")
    page.get_by_label("只看紧急").check()
    expect(page.locator(f"#ticket-{READY}")).to_have_count(0)
    expect(page.locator(".card-ticket")).to_have_count(2)
    assert "late=1" in page.url
    assert page.evaluate("window.same") is True
    page.reload()
    expect(page.locator(".card-ticket")).to_have_count(2)


def test_the_deadline_clocks_run_at_the_pace_of_the_demo(page: Page, served: tuple[PortalSite, str]) -> None:
    _site, address = served
    log_in(page, address, "dispatcher")
    page.goto(f"{address}/board")
    clock = page.locator(f"#ticket-{READY} [data-remaining]")
    before = clock.inner_text()
    expect(clock).not_to_have_text(before, timeout=10_000)  # a minute passes in two seconds


def test_a_refusal_stands_beside_its_field_and_the_typed_name_is_kept(
    browser: Browser, served: tuple[PortalSite, str]
) -> None:
    _site, address = served
    context = browser.new_context(viewport=PHONE, java_script_enabled=False, locale="zh-CN")
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("用户名").fill("dispatcher")
    page.get_by_label("密码").fill("wrong")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_text("用户名或密码不正确")).to_be_visible()
    expect(page.get_by_label("用户名")).to_have_value("dispatcher")
    page.get_by_label("密码").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()
    page.goto(f"{address}/board")
    expect(page.locator(f"#ticket-{READY}")).to_be_visible()
    page.goto(f"{address}/account")
    page.get_by_label("账户").click()
    page.get_by_role("button", name="退出登录").click()
    expect(page.get_by_role("button", name="登录")).to_be_visible()
    context.close()


def test_the_gallery_draws_its_chart_with_limits(page: Page, served: tuple[PortalSite, str]) -> None:
    _site, address = served
    log_in(page, address, "qa")
    page.goto(f"{address}/gallery")
    expect(page.locator("#chart canvas").first).to_be_visible()
    expect(page.locator("#chart .chart-head").first).to_contain_text("功率")
    nothing_sticks_out(page)


def test_keyboard_alone_logs_in_and_skips_to_the_content(browser: Browser, served: tuple[PortalSite, str]) -> None:
    _site, address = served
    context = browser.new_context(viewport=DESK, locale="zh-CN")
    page = context.new_page()
    page.goto(f"{address}/login")
    for typed in ("dispatcher", "\t", PASSWORD, "\n"):
        page.keyboard.press({"\t": "Tab", "\n": "Enter"}[typed]) if typed in "\t\n" else page.keyboard.type(typed)
    page.wait_for_url(lambda url: "/login" not in url)
    page.goto(f"{address}/board")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="跳到正文")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    context.close()
