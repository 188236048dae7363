"""`redflow runs cancel`, `retry`, `rerun`: one run, or all that match."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Annotated, Protocol

import typer

from redflow.cli import exits, output
from redflow.cli.asking import (
    After,
    Before,
    InputFile,
    InputText,
    Json,
    Reason,
    WithError,
    WithParent,
    WithQueue,
    WithStatus,
    WithText,
    WithWorkflow,
    ask,
    filters,
    read_input,
    told,
)
from redflow.cli.exits import Refused, refusals
from redflow.cli.options import Prefix, Url
from redflow.cli.runs import RunId
from redflow.cli.texts import columns
from redflow.client import RedflowClient
from redflow.operate import BulkJob
from redflow.types import UNCHANGED, BulkAction, BulkProgress, SearchRunsParams

RunIds = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="The runs; or choose by filters.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All runs that this can be done to.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this a bulk action asks, or only counts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the runs; change nothing.")]

_CHUNK = 200
_DONE = ("canceled", "requested", "retried")


def cancel(
    run_ids: RunIds = None,
    reason: Reason = "",
    status: WithStatus = None,
    workflow: WithWorkflow = None,
    queue: WithQueue = None,
    error: WithError = None,
    parent: WithParent = None,
    query: WithText = None,
    after: After = None,
    before: Before = None,
    every: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Cancel runs by id, or all unfinished ones that match the filters, with their children.

    Exit codes: 0 done (or counted), 1 some of the ids could not be canceled, 2 refused: nothing was done.
    """
    params = filters(
        status=status,
        workflow=workflow,
        queue=queue,
        error=error,
        parent=parent,
        query=query,
        after=after,
        before=before,
    )
    chosen = _Chosen("cancel", run_ids or [], params, every, yes, dry_run, as_json, reason)
    return ask(url, prefix, chosen.carry_out)


def retry(
    run_ids: RunIds = None,
    workflow: WithWorkflow = None,
    queue: WithQueue = None,
    error: WithError = None,
    parent: WithParent = None,
    query: WithText = None,
    after: After = None,
    before: Before = None,
    every: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Let failed runs go on from the step that failed, by id or all that match the filters.

    Exit codes: 0 done (or counted), 1 some of the ids could not be retried, 2 refused: nothing was done.
    """
    params = filters(
        workflow=workflow, queue=queue, error=error, parent=parent, query=query, after=after, before=before
    )
    chosen = _Chosen("retry", run_ids or [], params, every, yes, dry_run, as_json, "")
    return ask(url, prefix, chosen.carry_out)


def rerun(
    run_id: RunId,
    input: InputText = None,
    input_file: InputFile = None,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Start a new run like another one, with its input or another, and print its id.

    Exit codes: 0 started, 2 refused.
    """
    given = read_input(input, input_file)
    return ask(url, prefix, lambda client: _rerun(client, run_id, given, as_json))


async def _rerun(client: RedflowClient, run_id: str, given: Sequence[object], as_json: bool) -> int:
    handle = await told(client.operate.rerun(run_id, input=given[0] if given else UNCHANGED))
    if as_json:
        output.json_line({"id": handle.id, "rerun_of": run_id})
    else:
        output.line(handle.id)
    return exits.OK


class _Chosen:
    """What is to be done to which runs."""

    def __init__(
        self,
        action: BulkAction,
        run_ids: Sequence[str],
        params: SearchRunsParams,
        every: bool,
        yes: bool,
        dry_run: bool,
        as_json: bool,
        reason: str,
    ) -> None:
        filtered = params != SearchRunsParams()
        if run_ids and (filtered or every):
            raise Refused("name runs by their ids, or choose them by filters, not both")
        if not run_ids and not filtered and not every:
            raise Refused(f"which runs? Name ids, give filters, or --all for all that {action} is possible for")
        self._action: BulkAction = action
        self._run_ids = run_ids
        self._params = replace(params, limit=_CHUNK)
        self._yes, self._dry_run, self._as_json, self._reason = yes, dry_run, as_json, reason

    async def carry_out(self, client: RedflowClient) -> int:
        """Do it, or count; the exit code."""
        if self._run_ids:
            return await self._one_by_one(client)
        with refusals():
            job = self._job(client)
        count = await told(job.preview())
        number = f"{count['count']:,}" if count["exact"] else f"at least {count['count']:,}"
        text = f"{number} run{'' if count['count'] == 1 and count['exact'] else 's'} to {self._action}"
        if self._dry_run:
            if self._as_json:
                output.json_line({"action": self._action, "dry_run": True, **count})
            else:
                output.line(text)
            return exits.OK
        if not self._yes and not _agrees(text):
            raise Refused(f"{text}; nothing was done: add --yes to do it")
        return await self._all(job)

    def _job(self, client: RedflowClient) -> BulkJob:
        if self._action == "cancel":
            return client.operate.cancel_all(self._params, reason=self._reason)
        return client.operate.retry_all(self._params)

    async def _one_by_one(self, client: RedflowClient) -> int:
        operate = client.operate
        if self._dry_run:
            raise Refused("--dry-run is for filters; runs that are named by id are counted already")
        if self._action == "cancel":
            answers = await told(operate.cancel_runs(self._run_ids, reason=self._reason))
        else:
            answers = await told(operate.retry_runs(self._run_ids))
        if self._as_json:
            output.json_line({"action": self._action, "runs": dict(zip(self._run_ids, answers, strict=True))})
        else:
            output.lines(columns(("ID", "ANSWER"), list(zip(self._run_ids, answers, strict=True))))
        return exits.OK if all(answer in _DONE for answer in answers) else exits.PARTLY

    async def _all(self, job: BulkJob) -> int:
        last: BulkProgress | None = None
        with _bar(self._action, quiet=self._as_json) as bar, refusals():
            async for last in job:
                if bar is not None:
                    bar.show(last)
        assert last is not None
        if self._as_json:
            output.json_line(dict(last))
        else:
            skipped = f", {last['skipped']:,} had changed meanwhile" if last["skipped"] else ""
            output.line(f"{self._action}: {last['changed']:,} of {last['seen']:,} runs{skipped}")
        return exits.OK


def _agrees(text: str) -> bool:
    """Ask who sits at the terminal; nobody does where the input is none."""
    return sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm(f"{text}. Do it?", err=True)


class _Bar(Protocol):
    def show(self, progress: BulkProgress) -> None:
        """How far it is."""
        ...


def _bar(what: str, *, quiet: bool) -> AbstractContextManager[_Bar | None]:
    """A progress bar on stderr, where somebody sees it."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from redflow.cli.progress import ProgressBar  # late: rich's takes long to import

    return ProgressBar(what)
