"""The page, seen by a real browser: it shows what flows, ends a stream for who has the token, and lets nothing in from outside.

It stands before a proxy of two workers with the demo engine behind it, while clients ask for all kinds of things; the names in
their requests are hostile. To write the pictures of docs/ as well: `pytest tests/test_page.py --pictures`.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, async_playwright, expect

from tests.demo import request
from tests.scene import BACKWARDS, HOSTILE, TOKEN, Scene, clients, connect, scene

DOCS = Path(__file__).parent.parent / "docs"
WIDE, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
LOOKS = {"light": ("light", WIDE), "dark": ("dark", WIDE), "phone": ("light", PHONE), "phone-dark": ("dark", PHONE)}
PICTURES = ("light", "dark", "phone")
PICTURE_SECONDS = 70.0  # for the charts to have something to show

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


class Visit:
    """A page, and all that it must not have done."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self._url = url
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, asked: Request) -> None:
        if not asked.url.startswith(f"{self._url}/"):
            self.faults.append(f"asked {asked.url}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Scene]:
    async with scene() as place:
        yield place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_use(place: Scene) -> AsyncIterator[Scene]:
    async with clients(place):
        yield place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("CI") or os.environ.get("SOCKPROXY_REQUIRE_ENGINE") == "1":
            pytest.fail("a browser has to be here: chromium is not installed", pytrace=False)
        pytest.skip("chromium is not installed: nobody sees the page")
    async with async_playwright() as playwright:
        # Without its sandbox, which root cannot have: it sees nothing but our own page.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def visiting(
    browser: Browser, place: Scene, look: str = "light", seconds_max: float = 30.0
) -> AsyncIterator[Visit]:
    """The page, once it is live; at the end it must have done nothing that it must not."""
    scheme, size = LOOKS[look]
    context: Any = await browser.new_context(color_scheme=scheme, viewport=size)  # type: ignore[arg-type]
    try:
        visit = Visit(await context.new_page(), place.url)
        await visit.page.goto(f"{place.url}/")
        await expect(visit.page.locator("#state")).to_have_text("live")
        await expect(visit.page.locator("#rows tr").first).to_be_visible()
        async with asyncio.timeout(seconds_max):
            yield visit
        assert await visit.page.title() == "sockproxy"
        assert not visit.faults
    finally:
        await context.close()


async def test_what_flows_is_shown_with_rates_and_latencies(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page = visit.page
        for text in ("ContainerList", "ContainerInspect"):
            await expect(page.locator("#rows").get_by_text(text).first).to_be_visible()
            await expect(page.locator("#operation-rows").get_by_text(text)).to_be_visible()
        await expect(page.locator('[data-figure="rate"]')).to_have_text(re.compile(r"[0-9]"))
        await expect(page.locator('[data-figure="mean"]')).to_have_text(re.compile(r"[0-9] ms"))
        await expect(page.locator('[data-figure="engine"]')).to_have_text("the engine answers")
        await expect(page.locator("#operation-rows path").first).to_be_attached()


async def test_it_can_be_filtered(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page, rows = visit.page, visit.page.locator("#rows > tr:not([hidden]):not(.more)")
        await page.get_by_role("button", name="Denied").first.click()
        await expect(rows.first).to_be_visible()
        assert set(await rows.locator(".effect").all_inner_texts()) == {"deny"}
        await page.get_by_label("Filter what flows").fill("SwarmInit")
        await expect(rows.first).to_contain_text("SwarmInit")
        assert all("SwarmInit" in text for text in await rows.all_inner_texts())
        await page.get_by_label("Filter what flows").fill("there is no such thing")
        await expect(rows).to_have_count(0)
        await expect(page.locator("#flow .empty")).to_be_visible()


async def test_it_can_be_used_by_keyboard(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page = visit.page
        await page.get_by_role("button", name="Pause", exact=True).press("Enter")
        await expect(page.locator("#state")).to_have_text("live, flow paused")
        first = page.locator("#rows tr:not([hidden]) button").first
        await first.press("Enter")
        await expect(first).to_have_attribute("aria-expanded", "true")
        await expect(page.locator("#rows tr.more dl").first).to_contain_text("target")
        await first.press("Enter")
        await expect(page.locator("#rows tr.more")).to_have_count(0)
        await page.keyboard.press("Control+Home")
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('button, input, [role=region], section')]"
            ".filter((one) => !(one.textContent || one.labels?.length || one.ariaLabel || one.getAttribute('aria-labelledby')))"
            ".map((one) => one.outerHTML)"
        )
        assert unnamed == []


async def test_names_from_strangers_are_texts(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page = visit.page
        await expect(page.locator("#denials code").filter(has_text=HOSTILE).first).to_be_visible()
        await expect(page.locator("#rows td.name").filter(has_text=HOSTILE).first).to_be_attached()
        await expect(page.locator("#rows td.name").filter(has_text="\\u202ebew").first).to_be_attached()
        assert BACKWARDS not in await page.content()
        assert await page.locator("main img, main script").count() == 0


async def test_nothing_on_it_can_become_a_script(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page = visit.page
        with pytest.raises(Error, match="TrustedHTML"):
            await page.evaluate("document.body.innerHTML = '<img src=x onerror=document.title=`owned`>'")
        with pytest.raises(Error, match="TrustedScript"):
            await page.evaluate("document.body.setAttribute('onclick', 'document.title = `owned`')")
        with pytest.raises(Error, match="TrustedScriptURL"):
            await page.evaluate("document.createElement('script').src = 'https://evil.example/'")
        await page.evaluate("document.body.append(new Image())")
        await page.evaluate("document.querySelector('body > img').src = 'https://evil.example/'")
        assert any("evil.example" in fault and "Content Security Policy" in fault for fault in visit.faults)
        visit.faults.clear()


async def test_denials_say_why_and_what_would_allow_them(browser: Browser, in_use: Scene) -> None:
    says = {
        "SwarmInit": "The deny rule builders/deny[0] holds. No allow rule helps",
        "ContainerCreate": "What is not: HostConfig.Privileged is true; pod_security baseline requires false.",
        "ContainerPause": "- operations: [ContainerPause]",
        "ImageDelete": "extends: [readonly]",
        "unknown operation": "only @unknown allows it",
    }
    async with visiting(browser, in_use) as visit:
        for operation, say in says.items():
            await expect(visit.page.locator("#denial-list li").filter(has_text=operation).first).to_contain_text(say)


async def test_a_stream_is_ended_by_who_has_the_token(browser: Browser, in_use: Scene) -> None:
    stream = await connect(in_use, "d")
    await stream.say(request("GET", "/v1.41/containers/console/logs?follow=1&stdout=1"))
    await stream.hear_head()
    async with visiting(browser, in_use) as visit:
        page = visit.page
        end = page.get_by_role("button", name="End ContainerLogs of container console")
        answer = page.locator("#stream-answer")
        for token in ("", "wrong"):
            await page.get_by_label("Token").fill(token)
            await end.click()
            async with page.expect_response("**/end") as answered:
                await end.click()
            assert (await answered.value).status == 401
            await expect(answer).to_have_text("Not ended: the token is missing or wrong")
            await expect(end).to_have_text("End")
        visit.faults = [fault for fault in visit.faults if "401" not in fault]
        await page.get_by_label("Token").fill(TOKEN)
        await end.click()
        await end.click()
        await expect(answer).to_have_text("Ended ContainerLogs of console.")
        await stream.hear_end()
        await expect(end).to_have_count(0)
        assert TOKEN not in str(await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])"))


async def test_policies_can_be_searched(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page, rows = visit.page, visit.page.locator("#matrix tbody tr:not([hidden])")
        await expect(page.locator("#matrix th.cell")).to_have_text(["builders", "readonly"])
        await page.get_by_label("Search operations").fill("ContainerCreate")
        await expect(rows).to_have_count(1)
        await expect(rows.locator(".cell")).to_have_text(["? if", "· deny"])
        await page.get_by_label("Search operations").fill("@swarm")
        await page.locator('[data-cells="allow"]').click()
        assert all("Swarm" in text for text in await rows.locator("td:first-child").all_inner_texts())


async def test_the_record_is_shown_as_its_writers_know_it(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        trails = visit.page.locator(".trail")
        await expect(trails).to_have_count(2)  # one for each worker
        for number in range(2):
            await expect(trails.nth(number)).to_contain_text("whole: the last lines are those that were written")
            await expect(trails.nth(number)).to_contain_text("0 failed, 0 lost")
            await expect(trails.nth(number).locator(".hash").first).to_have_text(re.compile("[0-9a-f]{64}"))


async def test_a_page_that_nobody_sees_rests(browser: Browser, in_use: Scene) -> None:
    async with visiting(browser, in_use) as visit:
        page = visit.page
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        notice = "document.dispatchEvent(new Event('visibilitychange'));"
        await page.evaluate(hide % "true" + notice)
        await expect(page.locator("#state")).to_have_text("resting while nobody looks")
        await page.evaluate(hide % "false" + notice)
        await expect(page.locator("#state")).to_have_text("live")


@pytest.mark.parametrize("look", LOOKS)
async def test_it_fits_and_keeps_to_the_palette(browser: Browser, in_use: Scene, look: str) -> None:
    async with visiting(browser, in_use, look) as visit:
        page = visit.page
        await expect(page.locator("#denial-list li").first).to_be_visible()
        await expect(page.locator("#matrix tbody tr").first).to_be_visible()
        width, seen = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width == seen  # no scrolling to the side
        colours = await page.evaluate("['backgroundColor', 'color'].map((of) => getComputedStyle(document.body)[of])")
        ground, ink = (sum(map(int, re.findall(r"[0-9]+", colour)[:3])) for colour in colours)
        assert abs(ground - ink) > 400
        assert (ground < ink) == (LOOKS[look][0] == "dark")


@pytest.mark.timeout(200)
async def test_pictures(browser: Browser, in_use: Scene, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--pictures"):
        pytest.skip("pictures are written where they are asked for: --pictures")
    async with AsyncExitStack() as stack:
        seconds_max = 2 * PICTURE_SECONDS
        visits = {
            look: await stack.enter_async_context(visiting(browser, in_use, look, seconds_max)) for look in PICTURES
        }
        await asyncio.sleep(PICTURE_SECONDS)
        for look, visit in visits.items():
            await visit.page.screenshot(path=DOCS / f"page-{look}.png", full_page=look == "light")
