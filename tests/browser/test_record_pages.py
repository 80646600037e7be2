"""Taking a call by keyboard, with and without JavaScript; importing a spreadsheet with mistakes; no page wider than a phone."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from domain.clock import ScaledClock, to_ms
from domain.store.queries import registry
from domain.store.queries import tickets as query
from domain.tickets.states import Role
from portal.serve import serve
from tests.portal_site import NOW, PASSWORD, PortalSite, build
from tests.records_site import COLD, PHONE, THIRSTY, enrich

pytestmark = pytest.mark.browser
DESK, HANDSET = {"width": 1440, "height": 900}, {"width": 360, "height": 740}
Served = tuple[PortalSite, str]


@pytest.fixture(scope="module")
def browser(chromium_path: Path) -> Iterator[Browser]:
    """One Chromium for all tests here."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A portal with talking machines, and its address."""
    site = build(tmp_path, ScaledClock(datetime.now(UTC), NOW, 1))
    enrich(site)
    stop, ready = threading.Event(), queue.Queue[str]()
    thread = threading.Thread(target=serve, args=(site.app, ("127.0.0.1", 0), stop, ready.put), daemon=True)
    thread.start()
    try:
        yield site, ready.get(timeout=30)
    finally:
        stop.set()
        thread.join(timeout=30)


def opened(
    browser: Browser, served: Served, role: Role, *, scripts: bool = True, size: dict[str, int] | None = None
) -> Page:
    """A page of somebody who is logged in."""
    context = browser.new_context(viewport=size or DESK, locale="zh-CN", java_script_enabled=scripts)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{served[1]}/login")
    page.get_by_label("用户名").fill(role.value)
    page.get_by_label("密码").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def ticket_of(site: PortalSite, page: Page) -> tuple[str | None, str, str, str]:
    with site.sessions.read() as session:
        ticket = query.ticket(session, int(page.url.rsplit("/", 1)[1]))
        return ticket.serial, ticket.family, ticket.state, ticket.customer_words


def test_a_call_by_keyboard_alone(browser: Browser, served: Served) -> None:
    page = opened(browser, served, Role.OPERATOR)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.goto(f"{served[1]}/calls/new")
    expect(page.locator("#f-q")).to_be_focused()
    page.keyboard.type(PHONE)
    expect(page.get_by_role("radio", name=re.compile(COLD))).to_be_checked()
    expect(page.locator("#machine")).to_contain_text("前店 60 升豆浆机")
    page.keyboard.press("Enter")
    expect(page.locator("#f-words")).to_be_focused()
    page.keyboard.type("煮了半小时还是凉的")
    page.keyboard.press("Tab")
    expect(page.locator("#f-symptom")).to_be_focused()
    page.locator("#f-symptom").select_option("no_heat")  # what an arrow key does
    expect(page.locator("#claim")).to_contain_text("遥测与客户描述一致")
    expect(page.locator("#claim")).to_contain_text("8,100 W")
    expect(page.locator("#next button").first).to_have_text("登记并转派工")
    expect(page.locator("#f-words")).to_have_value("煮了半小时还是凉的")
    page.locator("#f-words").focus()
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile(r"/calls/\d+$"))
    expect(page.get_by_role("heading", name="已转派工")).to_be_visible()
    assert ticket_of(served[0], page) == (COLD, "heating", "ready", "煮了半小时还是凉的")
    assert problems == []
    page.context.close()


def test_looking_again_loses_nothing(browser: Browser, served: Served) -> None:
    page = opened(browser, served, Role.OPERATOR)
    page.goto(f"{served[1]}/calls/new")
    page.locator("#f-words").fill("不进水")
    page.locator("#f-caller_name").fill("刘老师")
    page.locator("#f-q").fill("蓝天小学")
    expect(page.get_by_role("radio", name=re.compile("SM-"))).to_have_count(2)
    page.get_by_role("radio", name=re.compile(THIRSTY)).check()
    expect(page.locator("#machine")).to_contain_text("这台设备有未完工单")
    expect(page.get_by_role("radio", name=re.compile("并入"))).to_be_checked()
    page.locator("#f-symptom").select_option("no_water")
    expect(page.locator("#claim")).to_contain_text("R07")
    page.locator("#f-caller_phone").fill("abc")
    page.locator("#next button").first.click()
    expect(page.get_by_text("“abc”")).to_be_visible()
    expect(page.locator("#f-words")).to_have_value("不进水")
    expect(page.locator("#f-caller_name")).to_have_value("刘老师")
    expect(page.locator("#f-symptom")).to_have_value("no_water")
    expect(page.get_by_role("radio", name=re.compile(THIRSTY))).to_be_checked()
    page.context.close()


def test_a_call_without_javascript(browser: Browser, served: Served) -> None:
    page = opened(browser, served, Role.OPERATOR, scripts=False)
    page.goto(f"{served[1]}/calls/new")
    page.locator("#f-words").fill("光转不热")
    page.locator("#f-q").fill(PHONE)
    page.locator("#f-q").press("Enter")
    expect(page.get_by_role("radio", name=re.compile(COLD))).to_be_checked()
    expect(page.locator("#f-words")).to_have_value("光转不热")
    page.locator("#f-symptom").select_option("no_heat")
    page.get_by_role("button", name="查看遥测").click()
    expect(page.locator("#claim")).to_contain_text("遥测与客户描述一致")
    page.get_by_role("button", name="登记并转派工").click()
    expect(page.get_by_role("heading", name="已转派工")).to_be_visible()
    assert ticket_of(served[0], page) == (COLD, "heating", "ready", "光转不热")
    page.goto(f"{served[1]}/calls/new?q=文二路")
    expect(page.get_by_role("radio", name=re.compile(COLD))).to_be_checked()
    page.context.close()


def test_the_self_check_is_watched_live(browser: Browser, served: Served) -> None:
    site = served[0]
    page = opened(browser, served, Role.OPERATOR)
    page.goto(f"{served[1]}/calls/new?q={THIRSTY}&symptom=no_water")
    page.locator("#f-words").fill("一直报缺水")
    page.get_by_role("button", name="登记并电话指导").click()
    expect(page.get_by_role("heading", name="等待设备恢复正常")).to_be_visible()
    step = page.get_by_role("checkbox").first
    step.check()
    with site.sessions.command() as session:
        now = site.clock.now()
        for row in query.uncleared_findings(session, THIRSTY):
            row.cleared_at_ms = to_ms(now)
    with site.sessions.command() as session:
        status = registry.status(session, THIRSTY)
        assert status is not None
        status.last_seen_at = site.clock.now()
    expect(page.get_by_text("自动关闭倒计时")).to_be_visible(timeout=15_000)
    expect(step).to_be_checked()
    page.context.close()


HEADER = "客户,联系人,电话,门店,地址,区域,序列号,类型,型号,名称"
GOOD = "晨光早点,周姐,13700002222,晨光一店,杭州市莫干山路 1 号,华东,IM-0001,豆浆机,SMM-60,左边那台"


def spreadsheet(folder: Path, *rows: str) -> Path:
    path = folder / "设备清单.csv"
    path.write_bytes("\r\n".join((HEADER, *rows)).encode("gb18030"))
    return path


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_a_spreadsheet_with_mistakes_and_the_corrected_one(
    browser: Browser, served: Served, tmp_path: Path, scripts: bool
) -> None:
    page = opened(browser, served, Role.ADMIN, scripts=scripts)
    page.goto(f"{served[1]}/equipment")
    page.get_by_role("link", name="导入表格").click()
    bad = spreadsheet(
        tmp_path, GOOD, GOOD.replace("IM-0001", "坏 号"), GOOD.replace("IM-0001", "IM-2").replace("SMM-60", "SMM-1")
    )
    page.get_by_label("CSV 文件").set_input_files(bad)
    page.get_by_role("button", name="检查文件").click()
    expect(page.get_by_role("heading", name="需要改正的行：2")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("第 3 行.*序列号.*坏 号"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("第 4 行.*型号.*SMM-1"))).to_be_visible()
    page.get_by_label("CSV 文件").set_input_files(spreadsheet(tmp_path, GOOD))
    page.get_by_role("button", name="检查文件").click()
    expect(page.get_by_role("heading", name="1 行检查通过")).to_be_visible()
    page.get_by_role("button", name="导入 1 行").click()
    expect(page.get_by_text("导入完成：1 行")).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("左边那台"))).to_be_visible()
    page.context.close()


@pytest.mark.parametrize("size", [DESK, HANDSET], ids=["desk", "phone"])
def test_no_page_is_wider_than_its_window_or_complains(browser: Browser, served: Served, size: dict[str, int]) -> None:
    problems: list[str] = []
    for role, paths in (
        (Role.OPERATOR, (f"/calls/new?q={THIRSTY}&symptom=no_water", "/calls/15", "/equipment", f"/equipment/{THIRSTY}",
                         f"/equipment/{COLD}/edit", "/customers", "/customers/2", "/customers/2/edit", "/sites/4")),
        (Role.ADMIN, ("/people", "/people/3", "/people/new", "/import/equipment", "/quarantine", "/unclaimed")),
    ):  # fmt: skip
        page = opened(browser, served, role, size=size)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        for path in paths:
            page.goto(f"{served[1]}{path}")
            page.wait_for_timeout(200)  # charts and streams
            assert page.evaluate("document.documentElement.scrollWidth") == size["width"], path
        page.context.close()
    assert problems == []
