"""The dashboard in a real Chromium: each screen, each action, keys, live updates, both themes, a phone's width."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from redflow import create_client
from redflow.dashboard.serving import DashboardServer, Serving
from redflow.types import ListRunsParams
from tests.dashboard.browser import PHONE, WIDE, Tab, find_chromium, open_browser, open_tab
from tests.dashboard.scene import NASTY, Scene, set_up
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import World, impatient

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Where checks have to run, a missing browser is a failure.
    pytest.mark.skipif(
        find_chromium() is None and not os.environ.get("REDFLOW_LINT_STRICT"), reason="chromium is not installed"
    ),
]

_SCOPE = {"scope": "module", "loop_scope": "module"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with open_browser() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(server: ServerProcess) -> AsyncIterator[Scene]:
    """A run in every state; tests add to it, and use up a run of their own where they change one."""
    world = World(server.url, f"browser-{secrets.token_hex(4)}")
    made = await set_up(world)
    yield made
    made.go.set()
    await world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(scene: Scene) -> AsyncIterator[str]:
    """A dashboard that may do everything."""
    served = DashboardServer(scene.world.client, Serving(port=0, actions=True))
    await served.start()
    yield served.url
    await served.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, url: str) -> AsyncIterator[Tab]:
    """A tab; at the end neither the console nor the security policy may have complained."""
    async with open_tab(browser, url) as made:
        yield made


SCREENS = ("/", "/runs", "/workflows", "/events", "/schedules", "/workers", "/tasks", "/health")

_FAULTS = r"""() => {
  const faults = [];
  const all = s => [...document.querySelectorAll(s)];
  if (all("main").length !== 1 || all("nav").length < 1 || all("h1").length !== 1) faults.push("landmarks");
  if (!document.documentElement.lang) faults.push("lang");
  for (const field of all("input:not([type=hidden]), select, textarea"))
    if (!field.labels.length && !field.getAttribute("aria-label")) faults.push("no label: " + field.outerHTML);
  for (const button of all("button, a"))
    if (!button.textContent.trim() && !button.getAttribute("aria-label")) faults.push("no name: " + button.outerHTML);
  for (const table of all("table")) {
    if (!table.querySelector("thead th[scope=col]")) faults.push("no column headers");
    if (table.tBodies[0].rows.length && !table.querySelector("tbody th[scope=row]")) faults.push("no row headers");
  }
  const ids = all("[id]").map(n => n.id);
  const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
  if (twice.length) faults.push("ids twice: " + twice);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const rgb = text => text.match(/[\d.]+/g).map(Number);
  const light = text => {
    const [r, g, b] = rgb(text).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const faint = new Set();
  const speaks = node => node.offsetParent && [...node.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  for (const node of all("#page *, header *").filter(speaks)) {
    let ground = node;
    while (ground && (rgb(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
    const front = light(getComputedStyle(node).color);
    const back = light(getComputedStyle(ground || document.body).backgroundColor);
    const contrast = Math.max(front, back) / Math.min(front, back);
    if (contrast < 4.5) faint.add(`${node.tagName}.${node.className}: ${contrast.toFixed(1)}`);
  }
  if (faint.size) faults.push("too faint: " + [...faint].join(", "));
  if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
  if (window.alerted) faults.push("a script of a payload ran");
  return faults;
}"""


@pytest.mark.parametrize("form", ["wide light", "phone dark"])
async def test_each_screen_is_sound(form: str, browser: Browser, url: str, scene: Scene) -> None:
    """Names for all fields and buttons, headers for all tables, one heading, nothing wider than the screen."""
    paths = [*SCREENS, *(f"/runs/{scene.runs[name]}" for name in ("succeeded", "failed", "asleep", "nasty", "running"))]
    paths += ["/workflow?name=order", f"/event?id={scene.event_id}", "/runs?q=%3Cscript%3E", "/runs?status=failed"]
    size = PHONE if form.startswith("phone") else WIDE
    async with open_tab(browser, url, dark=form.endswith("dark"), size=size) as tab:
        for path in paths:
            await tab.open(path)
            assert await tab.page.evaluate(_FAULTS) == [], path
            await tab.judge()


async def test_light_and_dark(browser: Browser, url: str) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    async with open_tab(browser, url, dark=True) as tab:
        await tab.open("/runs")
        dark = await tab.page.evaluate(paper)
        await tab.page.click("#theme")
        light = await tab.page.evaluate(paper)
        assert dark != light
        await tab.open("/workers")
        assert await tab.page.evaluate(paper) == light, "the choice is kept"
        await tab.page.keyboard.press("t")
        assert await tab.page.evaluate(paper) == dark
    async with open_tab(browser, url) as tab:
        await tab.open("/")
        assert await tab.page.evaluate(paper) == light, "the system's choice"


# --- live -----------------------------------------------------------------------------------------------------------


async def test_a_new_run_shows_up_by_itself_and_nothing_is_lost(tab: Tab, scene: Scene) -> None:
    """Ticks, an open field and the place on the page survive."""
    await tab.open("/runs?workflow=echo-live")
    await tab.says("No run matches")
    await tab.open("/runs")
    first = scene.runs["succeeded"]
    await tab.page.check(f'#r-{first} input[name="ids"]')
    await tab.page.fill("#search", "half a wor")
    run_id = await scene.run("parcel", {"number": 99})
    await tab.page.wait_for_selector(f"#r-{run_id}")
    assert await tab.page.is_checked(f'#r-{first} input[name="ids"]')
    assert await tab.page.input_value("#search") == "half a wor"
    assert "1 ticked" in await tab.text("#chosen")
    assert await tab.page.evaluate("performance.getEntriesByType('navigation').length") == 1


async def test_a_run_is_followed_to_its_end(tab: Tab, scene: Scene) -> None:
    run_id = (await scene.world.client.emit_workflow("approval", 501)).id
    await tab.open(f"/runs/{run_id}")
    await tab.says("waits for event")
    await tab.page.click("summary:has(#test-title)")
    await scene.world.client.emit_event("order.approved", {"by": "Ada"}, correlation_key="order-501")
    await tab.says("It succeeded")
    assert await tab.text("#said") == "The run is now succeeded", "screen readers hear of it"
    assert await tab.page.evaluate("document.getElementById('as-test').open"), "what was opened stays open"
    assert '"by": "Ada"' in await tab.text()


async def test_updates_can_be_stopped(tab: Tab, scene: Scene) -> None:
    await tab.open("/runs")
    await tab.page.keyboard.press("p")
    await tab.says("paused", "#live")
    run_id = await scene.run("parcel", {"number": 98})
    assert await tab.page.query_selector(f"#r-{run_id}") is None
    await tab.page.click("#live-toggle")
    await tab.page.wait_for_selector(f"#r-{run_id}")


async def test_a_server_that_goes_away_is_told_and_what_was_seen_stays(
    browser: Browser, private_server: Callable[[ServerOptions], ServerProcess]
) -> None:
    server = private_server(ServerOptions(appendonly=True))
    client = impatient(create_client(url=server.url, prefix="gone"))
    await client.run_by_name("w", {}, queue_override="bulk")
    served = DashboardServer(client, Serving(port=0))
    await served.start()
    try:
        async with open_tab(browser, served.url, judged=False) as tab:
            await tab.open("/runs")
            server.kill()
            await tab.says("Not up to date since", "#trouble")
            assert "queued" in await tab.text(), "the old list is still there"
            assert await tab.page.evaluate("document.body.classList.contains('stale')")
            await tab.open("/workers")
            await tab.says("The server can't be reached")
            server.start()
            await tab.says("No worker lives")
            await tab.open("/runs")
            await tab.says("queued")
    finally:
        await served.stop()
        await client.close()


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_the_keyboard(tab: Tab, scene: Scene) -> None:
    page = tab.page
    await tab.open("/runs")
    rows = await page.eval_on_selector_all("tr[data-row]", "rows => rows.map(row => row.id)")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    assert await page.eval_on_selector("tr.here", "row => row.id") == rows[1]
    await page.keyboard.press("x")
    assert await page.is_checked(f"#{rows[1]} input")
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.id") == "search"
    await page.keyboard.type("gjk?")
    assert await page.input_value("#search") == "gjk?", "keys in a field are text"
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    assert await page.evaluate("document.getElementById('help').open")
    await page.keyboard.press("Escape")
    assert not await page.evaluate("document.getElementById('help').open")
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/runs/{rows[0].removeprefix('r-')}")
    for letter, path in (("w", "/workflows"), ("h", "/health"), ("o", "/"), ("r", "/runs")):
        await page.keyboard.press("g")
        await page.keyboard.press(letter)
        await page.wait_for_url(f"**{path}")


async def test_filters_change_the_address_and_back_goes_back(tab: Tab, scene: Scene) -> None:
    await tab.open("/runs")
    await tab.page.select_option("select[name=status]", "failed")
    await tab.page.wait_for_url("**/runs?status=failed")
    await tab.says("CardDeclined")
    assert "succeeded" not in await tab.text("tbody")
    await tab.page.fill("#search", "4242")
    await tab.page.press("#search", "Enter")
    await tab.page.wait_for_url("**/runs?status=failed&q=4242")
    await tab.page.wait_for_function("() => document.querySelectorAll('tr[data-row]').length === 1")
    saved = tab.page.url
    await tab.page.go_back()
    await tab.page.wait_for_function("() => document.querySelectorAll('tr[data-row]').length > 1")
    await tab.page.goto(saved)
    assert await tab.page.input_value("#search") == "4242"
    assert await tab.page.locator("tr[data-row]").count() == 1


# --- actions --------------------------------------------------------------------------------------------------------


async def test_cancel_and_run_again_with_edited_input(tab: Tab, scene: Scene) -> None:
    run_id = (await scene.world.client.emit_workflow("approval", 502)).id
    await tab.open(f"/runs/{run_id}")
    await tab.says("waits for event")
    await tab.page.click("text=Cancel")
    await tab.says("canceled", "h1")
    assert tab.asked == ["Cancel this run and its children?"]
    await tab.page.fill("#again-input", '"edited"')
    await tab.page.click("text=Start a new run")
    await tab.page.wait_for_url(lambda url: "/runs/run_" in url and run_id not in url)
    await tab.says('"edited"')
    assert run_id[-8:] in await tab.text(".facts"), "it names the one that it came from"


async def test_retry_and_the_message_of_a_refusal(tab: Tab, scene: Scene) -> None:
    run_id = await scene.run("payment", {"card": "7"})
    await tab.open(f"/runs/{run_id}")
    await tab.page.click("text=Retry from the failed step")
    await tab.says("It goes on at the step that failed", "#notice")
    await tab.page.fill("#again-input", "{half")
    async with tab.page.expect_response("**/do/rerun"):
        await tab.page.click("text=Start a new run")
    await tab.says("The input is not JSON", "#notice")
    tab.wrong = [line for line in tab.wrong if "400 (Bad Request)" not in line and "Response Status Error" not in line]


async def test_the_bulk_bar_shows_the_count_first(tab: Tab, scene: Scene) -> None:
    client = scene.world.client
    ids = [(await client.run_by_name("bulky", n, queue_override="bulk")).id for n in range(7)]
    await tab.open("/runs?workflow=bulky")
    await tab.page.click("text=Cancel …")
    await tab.says("7 runs would be canceled", "#bulk")
    await tab.page.click("text=Leave them alone")
    assert await tab.text("#bulk") == ""
    assert (await client.get_stats())["by_status"]["queued"] >= 7
    await tab.page.check(f'#r-{ids[0]} input[name="ids"]')
    await tab.page.click("text=Cancel them")
    await tab.says("1 of 1 runs", "#notice")
    await tab.page.click("text=Cancel …")
    await tab.says("6 runs would be canceled", "#bulk")
    await tab.page.click("text=Cancel 6 runs")
    await tab.says("done", "#jobs")
    await tab.page.wait_for_function("() => document.querySelectorAll('tbody .state.canceled').length === 7")
    listed = await client.list_runs(ListRunsParams(workflow="bulky"))
    assert {run["status"] for run in listed} == {"canceled"}


async def test_start_by_form(tab: Tab, scene: Scene) -> None:
    await tab.open("/workflows")
    await tab.page.click("th a:text-is('order')")
    await tab.page.fill('[name="field.number"]', "41")
    await tab.page.select_option('[name="field.speed"]', '"fast"')
    await tab.page.click("form#start button.primary")
    await tab.page.wait_for_url("**/runs/run_*")
    await tab.says("It succeeded")
    assert '"number": 41' in await tab.text()


async def test_emit(tab: Tab, scene: Scene) -> None:
    await tab.open("/events")
    await tab.page.fill("#emit [name=name]", "order.paid")
    await tab.page.fill("#emit [name=data]", '{"order": 77}')
    await tab.page.click("#emit button")
    await tab.page.wait_for_url("**/event?id=*")
    await tab.says("delivered")
    assert '"order": 77' in await tab.text()


async def test_pause_fire_and_drain(tab: Tab, scene: Scene) -> None:
    page, client = tab.page, scene.world.client
    await tab.open("/workflows")
    await page.click("tr:has(a:text-is('review')) >> text=Pause")
    await page.wait_for_selector("tr:has(a:text-is('review')) .state.paused")
    await page.click("tr:has(a:text-is('review')) >> text=Resume")
    await page.wait_for_selector("tr:has(a:text-is('review')) .state.paused", state="detached")
    await tab.open("/workers")
    await page.click("tr:has(a:text-is('app:bulk')) >> text=Pause")
    await page.wait_for_selector("tr:has(a:text-is('app:bulk')) .state.paused")
    await page.click("tr:has(a:text-is('app:bulk')) >> text=Resume")
    await page.click("text=Drain >> nth=0")
    await tab.says("draining")
    await page.click("text=Claim again")
    await tab.says("Drain and end")
    await tab.open("/schedules")
    await page.click("text=Pause")
    await tab.says("paused")
    await page.click("text=Resume")
    await page.wait_for_selector(".state.paused", state="detached")
    await page.click("text=Fire now")
    await page.wait_for_url("**/runs/run_*")
    await tab.says("report", "h1")
    assert "paused" not in await client.get_stats()


async def test_a_button_that_has_the_focus_changes_with_its_row(tab: Tab, scene: Scene) -> None:
    """Who has just pressed one must be able to press the one that takes it back."""
    page, workflows = tab.page, scene.world.client.workflows
    await tab.open("/workflows")
    row = "tr:has(a:text-is('review'))"
    await page.focus(f"{row} >> text=Pause")
    await workflows.pause("review")
    try:
        await page.wait_for_selector(f"{row} >> text=Resume")
    finally:
        await workflows.resume("review")
    await page.wait_for_selector(f"{row} >> text=Pause")


async def test_a_test_is_copied(tab: Tab, scene: Scene) -> None:
    await tab.open(f"/runs/{scene.runs['succeeded']}")
    await tab.page.click("summary:has(#test-title)")
    await tab.page.click('[data-copy="#test"]')
    await tab.says("Copied", "#said")
    text = await tab.page.evaluate("navigator.clipboard.readText()")
    assert "step_overrides=steps" in text
    compile(text, "copied", "exec")


# --- login, and what does harm --------------------------------------------------------------------------------------


async def test_sign_in_and_out(browser: Browser, scene: Scene) -> None:
    served = DashboardServer(scene.world.client, Serving(host="0.0.0.0", port=0, token="open sesame, please"))
    await served.start()
    try:
        async with open_tab(browser, served.url, judged=False) as tab:
            await tab.page.goto(served.url)
            await tab.page.fill("[name=token]", "open sesame")
            await tab.page.click("text=Sign in")
            await tab.says("That is not the token", "#notice")
            await tab.page.fill("[name=token]", "open sesame, please")
            await tab.page.click("button:text('Sign in')")
            await tab.says("Overview", "h1")
            assert "read-only" in await tab.text("header")
            await tab.page.click("text=sign out")
            await tab.page.wait_for_url("**/login")
    finally:
        await served.stop()


async def test_nothing_that_users_wrote_runs(tab: Tab, scene: Scene) -> None:
    await tab.page.add_init_script("window.alert = () => { window.alerted = true; }")
    await scene.world.client.emit_event(NASTY, {NASTY: NASTY})
    for path in (
        "/",
        "/runs",
        "/events",
        "/workflows",
        f"/runs/{scene.runs['nasty']}",
        f"/runs/{scene.runs['failed']}",
    ):
        await tab.open(path)
        assert not await tab.page.evaluate("window.alerted || document.querySelectorAll('#page script').length")
        assert NASTY in await tab.text(), path


async def test_hidden_tabs_hold_no_stream(tab: Tab, scene: Scene, url: str) -> None:
    """Browsers take six streams of a place at a time; a seventh tab must still load."""
    tabs = [await tab.page.context.new_page() for _ in range(6)]
    for page in tabs:
        await page.goto(f"{url}runs")
        await page.evaluate(
            "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true}); "
            "document.dispatchEvent(new Event('visibilitychange')); }"
        )
    await tab.open("/runs")
    await tab.says("live", "#live")
    for page in tabs:
        await page.close()
