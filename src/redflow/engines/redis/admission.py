"""The verbs of admission and debounce; `execution.admission` says when they are called."""

from __future__ import annotations

from dataclasses import replace

from redflow.codec import BlindedKind
from redflow.domain.run import RunOrder
from redflow.domain.sealing import Vault
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import as_int, as_list, as_text
from redflow.engines.redis.runs import Lease, RunScripts, order_args
from redflow.engines.redis.scripts import verb
from redflow.errors import ConnectionError
from redflow.execution.admission import Admission, AdmissionRequest, Budget
from redflow.execution.journal import LeaseLost
from redflow.types import Durability, ResolvedDebounce

ADMIT = verb(
    "admit_run",
    args="now, id, fence, token, first, mutex, rate_key, rate_limit, rate_period, throttle_key, throttle_limit, "
    "throttle_period",
)
DEBOUNCE = verb("debounce_run", args="now, id, fence, token, retention, key, period, timeout")
CREATE_DEBOUNCED = verb(
    "create_debounced",
    args="now, client_app, id, workflow, queue, max_attempts, input, run_at, key, ttl, "
    "priority, run_timeout, parent, debounce_key, period, timeout",
)


async def admit(scripts: RunScripts, lease: Lease, request: AdmissionRequest) -> Admission:
    """Let a claimed run pass its gates, or put it where it has to wait.

    Raises:
        LeaseLost: somebody else has the run, or Redis can't be reached.
    """
    if scripts.vault is not None:
        request = blinded(request, scripts.vault)
    return await admit_blinded(scripts, lease, request)


async def admit_blinded(scripts: RunScripts, lease: Lease, request: AdmissionRequest) -> Admission:
    """As `admit`, for a request whose keys are what the server is to know."""
    args: list[Argument] = [
        scripts.now,
        lease.run_id,
        lease.fence,
        lease.token,
        "1" if request.first else "",
        request.mutex or "",
        *_budget_args(request.rate),
        *_budget_args(request.throttle),
    ]
    try:
        code, now, retry_after = as_list(await scripts.connection.call(ADMIT, scripts.keys.base, args))
    except ConnectionError as exc:
        raise LeaseLost(str(exc)) from exc
    return Admission(_still_ours(as_text(code)), as_int(now), as_int(retry_after))


async def debounce(scripts: RunScripts, lease: Lease, wanted: ResolvedDebounce) -> str:
    """Debounce a claimed run that was created without its key; the script's answer.

    Raises:
        LeaseLost: somebody else has the run, or Redis can't be reached.
    """
    args = (
        scripts.now,
        lease.run_id,
        lease.fence,
        lease.token,
        scripts.retention_ms,
        *_debounce_args(wanted, scripts.vault),
    )
    try:
        return _still_ours(as_text(await scripts.connection.call(DEBOUNCE, scripts.keys.base, args)))
    except ConnectionError as exc:
        raise LeaseLost(str(exc)) from exc


async def create_debounced(
    scripts: RunScripts, order: RunOrder, client_app: str | None, wanted: ResolvedDebounce
) -> tuple[str, str, bool]:
    """Accept a run that waits for its debounce, or give its input to the one that waits.

    Returns:
        (code, stored run id, whether it is as durable as was asked)
    """
    args = (scripts.now, client_app or "", *order_args(order, scripts.vault), *_debounce_args(wanted, scripts.vault))
    if order.durability is Durability.NONE:
        reply, confirmed = await scripts.connection.call(CREATE_DEBOUNCED, scripts.keys.base, args), True
    else:
        reply, confirmed = await scripts.connection.call_durably(
            CREATE_DEBOUNCED, scripts.keys.base, args, order.durability
        )
    code, run_id = as_list(reply)
    return as_text(code), as_text(run_id), confirmed


def blinded(request: AdmissionRequest, vault: Vault) -> AdmissionRequest:
    """The same request with the keys that the server is told."""

    def budget(given: Budget | None, kind: BlindedKind) -> Budget | None:
        return None if given is None else replace(given, key=vault.blind(kind, given.key))

    mutex = None if request.mutex is None else vault.blind("mutex", request.mutex)
    rate, throttle = budget(request.rate, "rate_limit"), budget(request.throttle, "throttle")
    return AdmissionRequest(request.first, mutex, rate, throttle)


def _still_ours(code: str) -> str:
    """The script's code; the claim that a lost reply took back counts as waiting, which it does."""
    if code in ("stale", "gone"):
        raise LeaseLost(f"the admission was refused: {code}")
    return code


def _budget_args(budget: Budget | None) -> tuple[Argument, ...]:
    return ("", 0, 0) if budget is None else (budget.key, budget.limit, budget.period_ms)


def _debounce_args(wanted: ResolvedDebounce, vault: Vault | None) -> tuple[Argument, ...]:
    key = wanted.key if vault is None else vault.blind("debounce", wanted.key)
    return key, wanted.period_ms, "" if wanted.timeout_ms is None else wanted.timeout_ms
