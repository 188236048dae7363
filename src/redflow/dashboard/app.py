"""The ASGI application: which path shows what, and how actions are answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redflow.client import RedflowClient
from redflow.dashboard.actions import ACTIONS, bulk_of, job_of
from redflow.dashboard.forms import read_form
from redflow.dashboard.guard import SESSION_COOKIE, Guard, Rules, below, cookie, same, session_of
from redflow.dashboard.jobs import Jobs
from redflow.dashboard.live import Live, Sight
from redflow.dashboard.ports import TaskSource, installed_task_source
from redflow.dashboard.screens import events, health, overview, run, runs, schedules, tasks, workers, workflows
from redflow.dashboard.site import Asked, Missing, Page, Refused, Screen, Site, digest
from redflow.dashboard.text import count, pretty
from redflow.errors import RedflowError

_STATIC: Final = Path(__file__).parent / "static"

SCREENS: Final[Mapping[str, tuple[Screen, str]]] = {
    "/": (overview.overview, "overview"),
    "/runs": (runs.runs, "runs"),
    "/runs/{run_id}": (run.run, "runs"),
    "/workflows": (workflows.workflows, "workflows"),
    "/workflow": (workflows.workflow, "workflows"),
    "/events": (events.events, "events"),
    "/event": (events.event, "events"),
    "/schedules": (schedules.schedules, "schedules"),
    "/workers": (workers.workers, "workers"),
    "/tasks": (tasks.tasks, "tasks"),
    "/task": (tasks.task, "tasks"),
    "/health": (health.health, "health"),
}
"""What each path shows, and in which section."""


def dashboard(
    client: RedflowClient,
    *,
    enable_actions: bool = False,
    token: str | None = None,
    allowed_hosts: Iterable[str] | None = None,
    allowed_origins: Iterable[str] = (),
    mask: Iterable[str] = (),
    tasks: TaskSource | None = None,
) -> ASGIApp:
    """Make the dashboard: an ASGI application, to be served, or mounted below a path of another one.

    Mounted, it stands behind whatever login your application puts in front of that path; without one everybody who
    reaches your application sees it. It opens no connection before the first request, and does not close the client.

    Args:
        client: of the prefix that is shown; it must be used in the event loop that serves the application.
        enable_actions: whether anything may be changed: cancel, retry, start, emit, pause, drain. Without it every
            request that would change something is refused.
        token: a secret of 16 characters or more that visitors must know; None leaves the login to your application.
        allowed_hosts: names (without port) under which it may be asked for; None takes any.
        allowed_origins: origins besides its own from which actions may come, such as "https://ops.example.org", for a
            proxy that changes the Host header.
        mask: keys whose values are hidden in every payload, whatever their case: ("password", "token"). "*" hides
            payloads whole.
        tasks: where task records are read; None takes what an installed package offers.

    Raises:
        ValueError: the token is too short; an origin is none.

    Example:
        >>> app = Starlette(routes=[Mount("/redflow", dashboard(client, enable_actions=True))])
    """
    if token is not None and len(token) < 16:
        raise ValueError(f"token must have 16 characters or more, got {len(token)}")
    for origin in (origins := tuple(allowed_origins)):
        if urlsplit(origin).scheme not in ("http", "https") or origin.count("/") != 2:
            raise ValueError(f"allowed_origins: {origin!r:.100} is no origin, such as https://ops.example.org")
    keys = frozenset(key.lower() for key in mask)
    source = installed_task_source(client) if tasks is None else tasks
    site = Site(client, actions=enable_actions, mask=keys, tasks=source)
    hosts = None if allowed_hosts is None else tuple(host.lower() for host in allowed_hosts)
    return Guard(_Dashboard(site, token).app, Rules(enable_actions, token, hosts, origins))


class _Dashboard:
    """The paths of one dashboard."""

    def __init__(self, site: Site, token: str | None) -> None:
        self._site = site
        self._token = token
        self._live = Live(self._look)
        self._jobs = Jobs()
        pages = [Route(path, self._shows(path), methods=["GET"]) for path in SCREENS]
        self._pages = pages
        self.app = Starlette(
            routes=[
                *pages,
                Route("/runs/{run_id}/{part}", self._payload, methods=["GET"]),
                Route("/bulk", self._bulk, methods=["GET"]),
                Route("/jobs", self._show_jobs, methods=["GET"]),
                Route("/live", self._stream, methods=["GET"]),
                Route("/login", self._login, methods=["GET", "POST"]),
                Route("/logout", self._logout, methods=["POST"]),
                Route("/do/{action}", self._act, methods=["POST"]),
                Mount("/static", _Static(directory=_STATIC)),
                Route("/{rest:path}", self._nowhere, methods=["GET", "POST"]),
            ]
        )

    # -- pages ---------------------------------------------------------------------------------------------------

    def _shows(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        screen, section = SCREENS[path]

        async def show(request: Request) -> Response:
            page = await self._site.page(screen, Asked(request.path_params, request.query_params), section)
            return self._answer(request, page)

        return show

    def _answer(self, request: Request, page: Page) -> Response:
        base: str = request.scope.get("root_path", "")
        at = _at(request)
        if request.headers.get("hx-request") and not request.headers.get("hx-history-restore-request"):
            inside = self._site.inside(page, base)
            told = json.dumps({"redflow:page": {"digest": digest(inside), "at": at, "title": page.title}})
            return HTMLResponse(inside, page.status, headers={"hx-trigger-after-swap": told, "vary": "HX-Request"})
        whole = self._site.whole(
            page, base, at=at, token=request.scope["redflow.csrf"], signed_in=request.scope["redflow.signed_in"]
        )
        return HTMLResponse(whole, page.status, headers={"vary": "HX-Request"})

    async def _nowhere(self, request: Request) -> Response:
        page = Page("Not found", "trouble.html", {"reason": "There is no such page.", "status": 404}, "", 404)
        return self._answer(request, page)

    async def _payload(self, request: Request) -> Response:
        """A payload as text, whole; never as anything that a browser would run."""
        try:
            value, name = await run.payload(self._site, Asked(request.path_params, request.query_params))
        except Missing as exc:
            return PlainTextResponse(f"{exc}\n", 404)
        except (RedflowError, OSError, ValueError) as exc:
            return PlainTextResponse(f"{exc}\n", 503)
        headers = {"content-disposition": f'inline; filename="{name}.json.txt"', "content-security-policy": "sandbox"}
        return PlainTextResponse(pretty(value), headers=headers)

    # -- live ----------------------------------------------------------------------------------------------------

    async def _look(self, at: str, base: str) -> Sight:
        """What a page shows now."""
        parts = urlsplit(at)
        scope: Scope = {"type": "http", "method": "GET", "path": unquote(parts.path), "root_path": "", "headers": []}
        for route in self._pages:
            matched, found = route.matches(scope)
            if matched.value == 2:
                screen, section = SCREENS[route.path]
                asked = Asked(found["path_params"], QueryParams(parse_qsl(parts.query, keep_blank_values=True)))
                page = await self._site.page(screen, asked, section)
                inside = self._site.inside(page, base)
                if page.status >= 500:
                    return Sight("", "", f"{page.title}: {page.context['reason']}")
                return Sight(inside, digest(inside))
        return Sight("", "", "There is no such page.")

    async def _stream(self, request: Request) -> Response:
        at = request.query_params.get("at", "/")
        if self._live.is_full():
            return PlainTextResponse("Too many pages are open.\n", 503)
        seen = request.query_params.get("seen", "")
        stream: AsyncIterator[bytes] = self._live.stream(at, request.scope.get("root_path", ""), seen)
        headers = {"x-accel-buffering": "no", "cache-control": "no-store"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    # -- actions -------------------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            return self._notice("There is no such action.", "failed", 404)
        if request.path_params["action"] == "bulk" and self._jobs.is_full:
            return self._notice("Enough bulk jobs are under way; wait for one to end.", "failed", 409)
        try:
            done = await action(self._site, self._jobs, await read_form(request))
        except Refused as exc:
            return self._notice(str(exc), "failed", 400)
        except (RedflowError, ValueError, TypeError, OSError) as exc:
            return self._notice(f"{type(exc).__name__}: {exc}", "failed", 409)
        base: str = request.scope.get("root_path", "")
        answer = self._notice(done.text, "done", 200)
        if done.go_to:
            answer.headers["hx-redirect"] = base + done.go_to
        answer.headers["hx-trigger"] = "redflow:changed"
        return answer

    def _notice(self, text: str, kind: str, status: int) -> HTMLResponse:
        rendered = self._site.templates.get_template("notice.html").render(text=text, kind=kind)
        return HTMLResponse(rendered, status)

    async def _bulk(self, request: Request) -> Response:
        """How many runs a bulk action would change, before anything is done."""
        form = dict(request.query_params)
        try:
            action, params = bulk_of(form)
            found = await job_of(self._site, action, params).preview()
        except (Refused, RedflowError, ValueError, OSError) as exc:
            return self._notice(str(exc), "failed", 400)
        context = {"action": action, "filters": form.get("filters", ""), "found": found}
        rendered = self._site.templates.get_template("bulk.html").render(
            context, base=request.scope.get("root_path", ""), shown=count(found["count"])
        )
        return HTMLResponse(rendered)

    async def _show_jobs(self, request: Request) -> Response:
        rendered = self._site.templates.get_template("jobs.html").render(
            jobs=self._jobs.latest, base=request.scope.get("root_path", "")
        )
        return HTMLResponse(rendered)

    # -- login ---------------------------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        base: str = request.scope.get("root_path", "")
        if self._token is None:
            return RedirectResponse(f"{base}/", 303)
        if request.method == "GET":
            whole = self._site.templates.get_template("login.html").render(
                base=base, token=request.scope["redflow.csrf"]
            )
            return HTMLResponse(whole)
        try:
            form = await read_form(request)
        except Refused as exc:
            return self._notice(str(exc), "failed", 400)
        if not same(form.get("token", ""), self._token):
            return self._notice("That is not the token.", "failed", 403)
        answer = self._notice("Welcome.", "done", 200)
        answer.headers["hx-redirect"] = f"{base}/"
        answer.headers.append("set-cookie", cookie(request.scope, SESSION_COOKIE, session_of(self._token)))
        return answer

    async def _logout(self, request: Request) -> Response:
        base: str = request.scope.get("root_path", "")
        answer = self._notice("You are signed out.", "done", 200)
        answer.headers["hx-redirect"] = f"{base}/login"
        answer.headers.append("set-cookie", cookie(request.scope, SESSION_COOKIE, "", ended=True))
        return answer


class _Static(StaticFiles):
    """Our own files; the address of each has the version, so browsers may keep them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one file."""

        async def kept(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["cache-control"] = "public, max-age=3600"
            await send(message)

        await super().__call__(scope, receive, kept)


def _at(request: Request) -> str:
    """Path and query below the base."""
    path = quote(below(request.scope))
    return f"{path}?{request.url.query}" if request.url.query else path
