"""A real Chromium for the tests and the pictures: Debian's, driven by playwright, which brings none along here."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, ViewportSize, async_playwright

WIDE: ViewportSize = {"width": 1360, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", event => window.violations.push(
  event.violatedDirective + " " + event.blockedURI + " " + event.sample));
"""


def find_chromium() -> str | None:
    """Where the browser is; None if it is not installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """A browser for a while."""
    path = find_chromium()
    assert path is not None, "there is no chromium; tools/apt-install.sh chromium chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*sandbox, "--disable-gpu"])
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """A tab, and all that went wrong in it.

    Attributes:
        page: playwright's page.
        wrong: what the console and the security policy complained about.
        asked: texts of the questions that were asked; all are answered with yes.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._answer)
        page.set_default_timeout(8_000)

    async def _answer(self, dialog: Dialog) -> None:
        self.asked.append(dialog.message)
        await dialog.accept()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text} at {message.location.get('url', '')}")

    async def open(self, path: str) -> None:
        """Load a page and wait until it is live, or says that it is not."""
        await self.page.goto(self.url.rstrip("/") + path)
        await self.page.wait_for_function(
            "() => !document.getElementById('live-word') "
            "|| document.getElementById('live-word').textContent !== 'connecting'"
        )

    async def text(self, selector: str = "#page") -> str:
        """What an element says."""
        return await self.page.inner_text(selector)

    async def says(self, words: str, selector: str = "#page") -> None:
        """Wait until an element says something."""
        await self.page.wait_for_function(
            "([selector, words]) => { const node = document.querySelector(selector); "
            "return node && node.innerText.includes(words); }",
            arg=[selector, words],
        )

    async def judge(self) -> None:
        """Fail if anything went wrong so far."""
        violations = await self.page.evaluate("window.violations || []")
        assert not self.wrong, self.wrong
        assert not violations, violations


@asynccontextmanager
async def open_tab(
    browser: Browser, url: str, *, dark: bool = False, size: ViewportSize = WIDE, judged: bool = True
) -> AsyncIterator[Tab]:
    """A tab in a profile of its own; at the end nothing may have gone wrong in it."""
    context = await browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport=size,
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    try:
        await context.add_init_script(_WATCH)
        tab = Tab(await context.new_page(), url)
        yield tab
        if judged:
            await tab.judge()
    finally:
        await context.close()
