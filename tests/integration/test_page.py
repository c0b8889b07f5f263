"""The status page in a real Chromium: a sink that is held and recovers, hostile events, the keyboard, a narrow screen.

With PAGE_PICTURES set to a folder, pictures of every scene are written there.
"""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from streamer.app import open_daemon
from streamer.config import config_model
from streamer.sinks import sink_options
from streamer.sources import source_options
from streamer.stop import Stop
from streamer.supervise import supervise
from streamer.telemetry import Telemetry
from tests.receiver import Receiver, receiver
from tests.simulation import KEY, Child, simulated_in_child

playwright = pytest.importorskip("playwright.async_api", reason="the browser's driver is in the group `test`")

pytestmark = pytest.mark.integration

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMIT_MS = 30_000
HOSTILE = (
    "<script>window.struck=1</script>",
    "\"><img src=x onerror='window.struck=1'>",
    "</title></svg></textarea><svg onload=window.struck=1>",
    "\u202egnp.exe\u2066\u200b\u0007\u2028",
    "A" * 20_000,
)


@pytest.fixture(scope="module", autouse=True)
def _chromium() -> None:
    if not shutil.which(CHROMIUM):
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            install, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )


@dataclass
class Scene:
    url: str
    page: Any
    simulator: Child
    received: Receiver
    answers: list[int]
    """The last is the status that the webhook's receiver answers."""
    complaints: list[str]
    """What the browser's console said."""

    async def picture(self, name: str, **how: Any) -> None:
        if folder := os.environ.get("PAGE_PICTURES"):
            await self.page.screenshot(path=f"{folder}/{name}.png", **how)

    async def says(self, text: str) -> None:
        await playwright.expect(self.page.locator("#verdict")).to_contain_text(text, timeout=LIMIT_MS)


@asynccontextmanager
async def scene(folder: Path, **browser_options: Any) -> AsyncIterator[Scene]:
    """The simulator in a process of its own; the daemon, a receiver of webhooks and a browser on its page."""
    answers, complaints = [200], []
    telemetry, stop = Telemetry(), Stop()
    with simulated_in_child(events=300, days=2, rate=4, seed=8) as simulator:
        async with receiver(lambda _: web.Response(status=answers[-1], text="this token has expired")) as received:
            config = _config(folder, simulator.base_url, received.url)
            async with open_daemon(config, telemetry, stop, slowest_s=1.0) as daemon:
                job = asyncio.create_task(supervise(daemon.jobs(), daemon.background(), stop, telemetry))
                url = f"http://127.0.0.1:{daemon.admin_port}"
                try:
                    async with _browser(**browser_options) as page:
                        page.on("console", lambda message: complaints.append(message.text))
                        page.on("pageerror", lambda error: complaints.append(str(error)))
                        yield Scene(url, page, simulator, received, answers, complaints)
                finally:
                    stop.set()
                    await job


def _config(folder: Path, base_url: str, webhook: str) -> Any:
    source = {
        "type": "openai_audit_logs",
        "api_key": KEY,
        "base_url": base_url,
        "start": "beginning",
        "poll_interval": "500ms",
    }
    return config_model(source_options(), sink_options()).model_validate(
        {
            "state": folder / "state",
            "admin": {"listen": "127.0.0.1:0"},
            "sources": {"acme": source},
            "sinks": {
                "local": {"type": "file", "path": folder / "audit.jsonl"},
                "siem": {"type": "webhook", "url": webhook, "layout": "json_array"},
            },
        }
    )


@asynccontextmanager
async def _browser(**options: Any) -> AsyncIterator[Any]:
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await browser.new_context(**{"viewport": {"width": 1180, "height": 1000}, **options})
            yield await context.new_page()
        finally:
            await browser.close()


async def test_a_held_sink_turns_the_page_red_and_its_recovery_green(tmp_path: Path) -> None:
    """Goal: the page tells the story of a sink live, with its reason, without a reload. Method: a receiver that starts to answer 401,
    then takes again; the events are all there in the end."""
    async with scene(tmp_path) as at:
        await at.page.goto(at.url)
        await at.says("Everything is all right")
        await playwright.expect(at.page.locator("#link")).to_have_text("live")
        await at.picture("green")
        assert await at.page.locator("svg.flow.wide .box.bad").count() == 0

        at.answers.append(401)
        await at.says("sink siem is held")
        await playwright.expect(at.page).to_have_title("✗ streamer")
        bad = at.page.locator("svg.flow.wide .box.bad")
        await playwright.expect(bad).to_contain_text("siem")
        await playwright.expect(bad).to_contain_text("401")
        await playwright.expect(bad).to_contain_text("waiting")
        # Let it hurt for a few samples, so that the picture shows it.
        waiting = at.page.locator("#charts figure", has_text="waiting for sinks").locator("b")
        await playwright.expect(waiting).not_to_have_text("0, at most 0", timeout=LIMIT_MS)
        await at.picture("red")
        await at.page.emulate_media(color_scheme="dark")
        await at.picture("red-dark")
        await at.page.emulate_media(color_scheme="light")

        at.answers.append(200)
        await at.says("Everything is all right")
        await playwright.expect(at.page).to_have_title("✓ streamer")
        await playwright.expect(bad).to_have_count(0)
        assert at.complaints == []


async def test_hostile_events_change_nothing(tmp_path: Path) -> None:
    """Goal: what an event says is text in the browser, on the page, live and in detail. Method: hostile names through the API and the
    daemon; a global that they would set, the console, the elements of the page."""
    async with scene(tmp_path) as at:
        await at.page.goto(at.url)
        await at.says("Everything is all right")
        truth = at.simulator.truth("organization", raw=True)[-1]
        sample = json.loads(truth["raw"])
        for number, name in enumerate(HOSTILE):
            user = {"id": name, "email": name, "name": name}
            event = {
                **sample,
                "id": f"hostile-{number}",
                "type": "login.failed",
                "login.failed": {"error_code": name, "error_message": name},
            }
            event["actor"] = {"type": "session", "session": {"user": user, "ip_address": name, "user_agent": name}}
            event["effective_at"] = int(
                time.time()
            )  # not beside the last one: it may lie before the overlap, on a quiet day
            at.simulator.control("POST", "events", [event])
        await at.page.goto(f"{at.url}/?q=hostile-")
        lines = at.page.locator(".events li a")
        await playwright.expect(lines).to_have_count(len(HOSTILE), timeout=LIMIT_MS)
        await at.picture("hostile", full_page=True)
        for path in [await line.get_attribute("href") for line in await lines.all()]:
            await at.page.goto(at.url + path)
            assert await at.page.locator("summary").count() == 6
            assert await at.page.locator("script, img, iframe, body svg").count() == 0
            assert await at.page.evaluate("window.struck") is None
            for summary in (await at.page.locator("summary").all())[1:]:
                await summary.click()
            assert await at.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        await at.picture("detail", full_page=True)
        assert (
            await at.page.evaluate("/[\\u202a-\\u202e\\u2066-\\u2069\\u200b]/.test(document.body.innerText)") is False
        )
        assert at.complaints == []


async def test_the_keyboard_and_a_narrow_screen(tmp_path: Path) -> None:
    """Goal: nothing needs a mouse or a wide screen. Method: 400 pixels, arrow keys and Enter."""
    async with scene(tmp_path, viewport={"width": 400, "height": 800}) as at:
        await at.page.goto(at.url)
        await at.says("Everything is all right")
        assert await at.page.evaluate("document.documentElement.scrollWidth") == 400
        assert await at.page.locator("svg.flow.narrow").is_visible()
        assert not await at.page.locator("svg.flow.wide").is_visible()
        await at.picture("narrow")
        first = at.page.locator(".events li a").first
        await first.focus()
        await at.page.keyboard.press("ArrowDown")
        second = await at.page.evaluate("document.activeElement.getAttribute('href')")
        assert second != await first.get_attribute("href")
        await at.page.keyboard.press("Enter")
        await at.page.wait_for_url(f"**{second}")
        assert await at.page.locator("summary").count() == 6


async def test_the_essentials_without_scripts(tmp_path: Path) -> None:
    """Goal: the page tells everything once without JavaScript, the filter too. Method: a browser that runs none."""
    async with scene(tmp_path, java_script_enabled=False) as at:
        async with asyncio.timeout(LIMIT_MS / 1000):
            while "Everything is all right" not in await _text(at):
                pass
        assert await at.page.locator("svg.flow.wide .box").count() == 5
        await at.page.locator("select[name=severity]").select_option("medium")
        await at.page.get_by_role("button", name="filter").click()
        await playwright.expect(at.page.locator(".events li a .informational")).to_have_count(0)
        assert await at.page.locator(".events li").count() > 0


async def _text(at: Scene) -> str:
    await at.page.goto(at.url)
    text: str = await at.page.locator("#verdict").inner_text()
    return text
