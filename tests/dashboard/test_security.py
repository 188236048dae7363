"""Who may ask, who may change anything, and what browsers may do with a page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from redflow.dashboard import dashboard
from redflow.dashboard.guard import CSRF_COOKIE, SESSION_COOKIE
from redflow.dashboard.serving import NotServed, Serving, check_serving
from tests.dashboard.visitor import HERE, Visitor
from tests.support.world import World

TOKEN = "a token of more than 16 characters"


async def refused(visitor: Visitor, status: int, words: str, *, path: str = "/do/emit", **headers: str) -> None:
    """An action with these headers is refused."""
    answer = await visitor.post(path, {"name": "e", "data": "{}"}, headers)
    assert answer.status_code == status, answer.text
    assert words in answer.text


# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/runs", "/static/redflow.css", "/nowhere", "/live", "/jobs", "/do/emit"])
async def test_every_answer_has_the_security_headers(path: str, visitor: Visitor) -> None:
    if path == "/live":
        path = "/login"
    headers = (await visitor.http.get(path)).headers
    policy = dict(part.partition(" ")[::2] for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"


async def test_pages_hold_no_script_and_no_style_of_their_own(visitor: Visitor) -> None:
    for path in ("/", "/runs", "/workers", "/login"):
        text = await visitor.get(path) if path != "/login" else ""
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<style", text), path
        assert not re.search(r"(src|href)=\"(https?:)?//", text), "nothing comes from elsewhere"


async def test_pages_are_not_kept_but_files_are(visitor: Visitor) -> None:
    assert (await visitor.http.get("/runs")).headers["cache-control"] == "no-store"
    assert "max-age" in (await visitor.http.get("/static/redflow.css")).headers["cache-control"]


async def test_no_file_beside_ours_is_served(visitor: Visitor) -> None:
    for path in ("/static/../guard.py", "/static/%2e%2e/guard.py", "/static//etc/passwd", "/static/..%2fapp.py"):
        answer = await visitor.http.get(path)
        assert answer.status_code in (404, 405)
        assert "import" not in answer.text


async def test_the_cookie_is_strict(visitor: Visitor) -> None:
    cookie = (await visitor.http.get("/runs")).headers["set-cookie"]
    assert cookie.startswith(f"{CSRF_COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    answer = await visitor.http.get("https://127.0.0.1:8011/runs", headers={"cookie": ""})
    assert "Secure" in answer.headers["set-cookie"]


# --- forged requests ------------------------------------------------------------------------------------------------


async def test_an_action_needs_origin_and_token(visitor: Visitor, world: World) -> None:
    await visitor.get("/runs")
    token = visitor.http.cookies[CSRF_COOKIE]
    good = {"origin": HERE, "x-csrf-token": token}
    await refused(visitor, 403, "no Origin", **{"x-csrf-token": token})
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:8012",
        f"{HERE}.evil.example",
        "file://127.0.0.1:8011",
    ):
        await refused(visitor, 403, "another origin", **{**good, "origin": origin})
    for wrong in ("", "x" * 32, token[:-1], f"{token}a"):
        await refused(visitor, 403, "lacks the token", **{**good, "x-csrf-token": wrong})
    await refused(visitor, 403, "lacks the token", origin=HERE)
    assert await world.client.list_events() == []
    answer = await visitor.post("/do/emit", {"name": "e", "data": "{}"}, good)
    assert answer.status_code == 200, answer.text
    assert len(await world.client.list_events()) == 1


async def test_a_token_without_its_cookie_is_worth_nothing(visitor: Visitor) -> None:
    await visitor.get("/runs")
    token = visitor.http.cookies[CSRF_COOKIE]
    visitor.http.cookies.clear()
    await refused(visitor, 403, "lacks the token", **{"origin": HERE, "x-csrf-token": token})
    visitor.http.cookies.clear()  # the refusal brought one along
    await refused(visitor, 403, "lacks the token", **{"origin": HERE, "x-csrf-token": ""})


async def test_nothing_is_changed_by_a_get(visitor: Visitor) -> None:
    for path in ("/do/emit", "/do/cancel-run", "/logout"):
        assert (await visitor.http.get(path)).status_code in (404, 405)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert (await visitor.http.request(method, "/runs")).status_code == 405


async def test_a_body_that_is_too_large_or_of_unknown_length_is_refused(visitor: Visitor) -> None:
    await visitor.get("/runs")
    headers = {"origin": HERE, "x-csrf-token": visitor.http.cookies[CSRF_COOKIE]}
    answer = await visitor.http.post("/do/emit", content=b"x" * (6 * 1024 * 1024 + 1), headers=headers)
    assert answer.status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"

    answer = await visitor.http.post("/do/emit", content=endless(), headers=headers)
    assert answer.status_code == 413


# --- read-only ------------------------------------------------------------------------------------------------------


async def test_read_only_shows_no_action_and_takes_none(reader: Visitor, world: World) -> None:
    text = await reader.get("/runs")
    assert "read-only" in text
    assert "/do/" not in text
    headers = {"origin": HERE, "x-csrf-token": reader.http.cookies[CSRF_COOKIE]}
    await refused(reader, 403, "read-only", **headers)
    assert await world.client.list_events() == []


# --- who may ask ----------------------------------------------------------------------------------------------------


async def test_a_name_that_was_rebound_is_refused(world: World) -> None:
    app = dashboard(world.client, allowed_hosts=("localhost", "127.0.0.1", "::1"))
    for host, status in (
        *(("127.0.0.1:8011", 200), ("localhost:1", 200), ("[::1]:8011", 200), ("LOCALHOST", 200)),
        *(("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("localhost.:80", 421), ("[::2]:80", 421)),
    ):
        async with Visitor(app) as visitor:
            answer = await visitor.http.get("/runs", headers={"host": host})
            assert answer.status_code == status, host


async def test_who_does_not_know_the_token_sees_nothing(world: World) -> None:
    async with Visitor(dashboard(world.client, token=TOKEN, enable_actions=True)) as visitor:
        answer = await visitor.http.get("/runs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        for path in ("/live?at=/runs", "/runs"):
            assert (await visitor.http.get(path, headers={"hx-request": "true"})).status_code == 401
        for scheme in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
            assert (await visitor.http.get("/runs", headers={"authorization": scheme})).status_code != 200
        assert (await visitor.http.get("/runs", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
        assert (await visitor.http.get("/runs", headers={"cookie": f"{SESSION_COOKIE}=x"})).status_code == 303


async def test_a_visitor_signs_in_and_out(world: World) -> None:
    async with Visitor(dashboard(world.client, token=TOKEN)) as visitor:
        await visitor.get("/login")
        headers = {"origin": HERE, "x-csrf-token": visitor.http.cookies[CSRF_COOKIE]}
        wrong = await visitor.post("/login", {"token": "wrong"}, headers)
        assert wrong.status_code == 403
        odd = await visitor.http.post("/login", content=b"token=\xff\xfe", headers=headers)
        assert odd.status_code == 400
        right = await visitor.post("/login", {"token": TOKEN}, headers)
        assert right.headers["hx-redirect"] == "/"
        assert TOKEN not in str(right.headers)
        assert "SameSite=Strict" in right.headers["set-cookie"]
        await visitor.get("/runs")
        await visitor.post("/logout", {}, headers)
        assert (await visitor.http.get("/runs")).status_code == 303
        forged = await visitor.post("/login", {"token": TOKEN}, {**headers, "origin": "http://evil.example"})
        assert forged.status_code == 403


async def test_mounted_below_a_path_of_another_application(world: World) -> None:
    app = Starlette(routes=[Mount("/ops/redflow", dashboard(world.client, enable_actions=True))])
    async with Visitor(app, base="/ops/redflow") as visitor:
        text = await visitor.get("/runs")
        assert set(re.findall(r'(?:src|href)="(/[^"/]*/?[^"/]*)', text)) == {"/ops/redflow"}
        assert [cookie.path for cookie in visitor.http.cookies.jar] == ["/ops/redflow"]
        assert (await visitor.http.get("/ops/redflow/static/redflow.js")).status_code == 200
        answer = await visitor.do("emit", name="e", data="{}")
        assert answer.headers["hx-redirect"].startswith("/ops/redflow/event?id=")


# --- how it is served -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "ops.example.org", "localhost.example"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(NotServed, match="without a token"):
        check_serving(Serving(host=host))
    check_serving(Serving(host=host, token=TOKEN))
    with pytest.raises(NotServed, match="16 characters"):
        check_serving(Serving(host=host, token="short"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_the_loopback_needs_none(host: str) -> None:
    check_serving(Serving(host=host))


async def test_what_makes_no_sense_is_refused_at_once(world: World) -> None:
    with pytest.raises(ValueError, match="16 characters"):
        dashboard(world.client, token="short")
    with pytest.raises(ValueError, match="is no origin"):
        dashboard(world.client, allowed_origins=["ops.example.org"])


async def test_a_proxy_that_changes_the_host_can_be_named(world: World) -> None:
    app = dashboard(world.client, enable_actions=True, allowed_origins=["https://ops.example.org"])
    async with Visitor(app) as visitor:
        await visitor.get("/runs")
        headers = {"origin": "https://ops.example.org", "x-csrf-token": visitor.http.cookies[CSRF_COOKIE]}
        answer: httpx.Response = await visitor.post("/do/emit", {"name": "e", "data": "{}"}, headers)
        assert answer.status_code == 200
