"""A visitor without a browser: sends what a browser would send."""

from __future__ import annotations

import html
import re
from typing import Self

import httpx
from starlette.types import ASGIApp

HERE = "http://127.0.0.1:8011"


class Visitor:
    """Asks one dashboard, with cookies, and with the token of the last page."""

    def __init__(self, app: ASGIApp, *, base: str = "", origin: str = HERE) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=origin)
        self._base = base
        self._origin = origin
        self._token = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()

    async def get(self, path: str, *, status: int = 200, **headers: str) -> str:
        """The text of a page; fails unless the answer has that status."""
        answer = await self.http.get(self._base + path, headers=headers)
        assert answer.status_code == status, f"{path}: {answer.status_code}\n{answer.text[:2000]}"
        if found := re.search(r'"X-CSRF-Token":"([\w-]+)"', answer.text):
            self._token = found[1]
        return answer.text

    async def words(self, path: str, *, status: int = 200) -> str:
        """What a page says, without its markup."""
        text = await self.get(path, status=status)
        inside = text.partition('<div id="page"')[2].partition("</main>")[0] or text
        return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", inside).split()))

    async def do(self, action: str, /, **form: str) -> httpx.Response:
        """Post an action, as htmx does."""
        if not self._token:
            await self.get("/runs")
        return await self.post(f"/do/{action}", form, {"origin": self._origin, "x-csrf-token": self._token})

    async def post(self, path: str, form: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        """Post a form with these headers and no others."""
        return await self.http.post(self._base + path, data=form, headers=headers)

    async def done(self, action: str, /, **form: str) -> str:
        """What an action answered; fails unless it was carried out."""
        answer = await self.do(action, **form)
        assert answer.status_code == 200, f"{action}: {answer.status_code} {answer.text}"
        return html.unescape(re.sub(r"<[^>]*>", "", answer.text)).strip()
