"""A web page that shows a task live, by server-sent events.

    pip install starlette uvicorn
    uvicorn examples.r7kit.live:app

`GET /tasks/{uuid}` is the page, `GET /tasks/{uuid}/changes` the events: one for each change, with the task as it is
then. A browser that loses its connection comes back with the id of the last change it has seen and misses none.
"""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from r7kit.exceptions import TaskNotFoundError
from r7kit.tasks import get_task, watch

PAGE = """<!doctype html>
<title>Task {uuid}</title>
<h1>Task {uuid}</h1>
<p>Status: <b id="status">{status}</b></p>
<pre id="payload"></pre>
<ol id="changes"></ol>
<script>
  const source = new EventSource(location.pathname + "/changes");
  const show = (event) => {{
    const told = JSON.parse(event.data);
    document.getElementById("status").textContent = told.status;
    document.getElementById("payload").textContent = JSON.stringify(told.payload, null, 2);
    const item = document.createElement("li");
    item.textContent = event.type + ": " + told.fields.join(", ");
    document.getElementById("changes").append(item);
    if (event.type === "deleted") source.close();
  }};
  for (const name of ["created", "patched", "deleted"]) source.addEventListener(name, show);
</script>
"""


async def page(request: Request) -> Response:
    """The page of a task."""
    try:
        task = await get_task(request.path_params["uuid"])
    except ValueError as error:  # TaskNotFoundError is one
        return JSONResponse({"error": str(error)}, status_code=404)
    return HTMLResponse(PAGE.format(uuid=html.escape(task.uuid), status=html.escape(task.status)))


async def changes(request: Request) -> Response:
    """The changes of a task, as server-sent events."""
    uuid = request.path_params["uuid"]
    after = request.headers.get("last-event-id")
    try:
        await get_task(uuid)
    except TaskNotFoundError as error:
        # 204 tells a browser not to come again: the task it has been watching is gone.
        return Response(status_code=204) if after else JSONResponse({"error": str(error)}, status_code=404)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(uuid, after), media_type="text/event-stream", headers=headers)


async def events(uuid: str, after: str | None) -> AsyncIterator[str]:
    """One event a change. The stream has no values, so the task is read for each."""
    async for change in watch(uuid, after=after):
        told: dict[str, object] = {"ver": change.ver, "status": change.status, "fields": change.fields}
        try:
            told["payload"] = (await get_task(uuid)).payload
        except TaskNotFoundError:
            told["payload"] = None
        yield f"id: {change.id}\nevent: {change.event}\ndata: {json.dumps(told)}\n\n"


app = Starlette(
    routes=[
        Route("/tasks/{uuid}", page),
        Route("/tasks/{uuid}/changes", changes),
    ]
)
