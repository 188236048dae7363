"""What stands in front of every page: who may ask, from where, and what browsers may do with the answer.

An ASGI middleware. It refuses with a plain text that says why; nothing behind it is run then.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_COOKIE: Final = "redflow_csrf"
SESSION_COOKIE: Final = "redflow_session"
CSRF_HEADER: Final = "x-csrf-token"
MOST_BODY: Final = 6 * 1024 * 1024
"""Bytes of a request's body; the largest input is 4 MiB."""

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers then send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_OPEN: Final = ("/login", "/static/")
"""Paths below the base that need no session."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
"""Names of this machine's own addresses."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the guard demands.

    Attributes:
        actions: whether anything may be changed.
        token: what a visitor must know; None: somebody in front of us, or the loopback, keeps others out.
        hosts: names under which the dashboard may be asked for (against DNS rebinding); None: any.
        origins: origins besides our own from which an action may come, such as https://ops.example.org.
    """

    actions: bool = False
    token: str | None = None
    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()


class Guard:
    """Checks each request and puts the security headers on each answer.

    Args:
        app: what stands behind.
        rules: what is demanded.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        cookies = cookie_parser(headers.get("cookie", ""))
        token = cookies.get(CSRF_COOKIE, "")
        fresh = not _is_token(token)
        scope["redflow.csrf"] = token = secrets.token_urlsafe(24) if fresh else token
        scope["redflow.signed_in"] = self._rules.token is not None

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer[name] = value
                if "cache-control" not in answer:
                    answer["cache-control"] = "no-store"
                if fresh:
                    answer.append("set-cookie", cookie(scope, CSRF_COOKIE, token))
            await send(message)

        refusal = self._refusal(scope, headers, cookies)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers, cookies: dict[str, str]) -> ASGIApp | None:
        rules, method = self._rules, scope["method"]
        path = below(scope)
        if rules.hosts is not None and host_of(headers.get("host", "")) not in rules.hosts:
            return _no(421, "This dashboard is not served under that name; ask for it as localhost or 127.0.0.1.")
        if method not in ("GET", "HEAD", "POST"):
            return _no(405, f"{method} is not understood here.")
        if method == "POST" and (why := self._forged(headers, cookies)) is not None:
            return _no(403, why)
        if rules.token is not None and not path.startswith(_OPEN) and not self._knows(headers, cookies):
            if method == "GET" and headers.get("hx-request") is None and path != "/live":
                return RedirectResponse(f"{scope.get('root_path', '')}/login", 303)
            return _no(401, "You are not signed in (any more); load the page again.")
        if method == "POST" and not rules.actions and not path.startswith(("/login", "/logout")):
            return _no(403, "This dashboard is read-only; actions have to be enabled where it is started.")
        if method == "POST" and not _fits(headers.get("content-length")):
            return _no(413, f"The request must have a length, of at most {MOST_BODY} bytes.")
        return None

    def _forged(self, headers: Headers, cookies: dict[str, str]) -> str | None:
        """Why a POST may not come from a page of ours; None if it does."""
        origin = headers.get("origin")
        if origin is None:
            return "The request has no Origin header; actions are taken from the dashboard's own pages only."
        own = urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
        if not (own and origin.startswith(("http://", "https://"))) and origin not in self._rules.origins:
            return "The request comes from a page of another origin."
        sent, kept = headers.get(CSRF_HEADER, ""), cookies.get(CSRF_COOKIE, "")
        if not _is_token(kept) or not hmac.compare_digest(sent.encode(), kept.encode()):
            return "The request lacks the token of this page; load the page again."
        return None

    def _knows(self, headers: Headers, cookies: dict[str, str]) -> bool:
        """Whether the visitor has the session, or brings the token along."""
        assert self._rules.token is not None
        scheme, _, brought = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return same(brought.strip(), self._rules.token)
        return same(cookies.get(SESSION_COOKIE, ""), session_of(self._rules.token))


def below(scope: Scope) -> str:
    """The path below the base under which the dashboard is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def is_loopback(host: str) -> bool:
    """Whether an address that is listened on is this machine's own only."""
    return host in LOOPBACK or host.startswith("127.")


def session_of(token: str) -> str:
    """What the cookie of somebody who knows the token holds."""
    return hmac.new(token.encode(), b"redflow dashboard session", hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def cookie(scope: Scope, name: str, value: str, *, ended: bool = False) -> str:
    """A cookie of ours, for its header."""
    base = scope.get("root_path", "") or "/"
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    age = "; Max-Age=0" if ended else ""
    return f"{name}={value}; Path={base}; HttpOnly; SameSite=Strict{secure}{age}"


def _is_token(text: str) -> bool:
    return len(text) == 32 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def _fits(length: str | None) -> bool:
    return length is not None and length.isascii() and length.isdecimal() and int(length[:12]) <= MOST_BODY


def _no(status: int, why: str) -> ASGIApp:
    return PlainTextResponse(f"{why}\n", status)
