"""start_rerun: a run that names the one it is like."""

from __future__ import annotations

from dataclasses import replace

from redflow.engines.redis.operations_runs import START_RERUN
from redflow.engines.redis.replies import as_pairs
from redflow.engines.redis.runs import order_args
from tests.support.scripts import Bench


async def test_it_is_created_once_and_names_its_source(bench: Bench) -> None:
    await bench.register_workflow()
    order = bench.order()
    assert as_pairs(await bench.call(START_RERUN, "", "run_a", *order_args(order))) == [("created", order.run_id)]
    assert await bench.field(order.run_id, "rf") == "run_a"
    before = await bench.values()
    assert as_pairs(await bench.call(START_RERUN, "", "run_b", *order_args(order))) == [("created", order.run_id)]
    assert await bench.values() == before


async def test_a_workflow_that_nobody_knows_needs_a_queue(bench: Bench) -> None:
    order = bench.order()
    assert as_pairs(await bench.call(START_RERUN, "", "run_a", *order_args(order))) == [
        ("unknown_workflow", order.run_id)
    ]
    assert await bench.values() == {}
    order = replace(order, queue="q")
    assert as_pairs(await bench.call(START_RERUN, "", "run_a", *order_args(order))) == [("created", order.run_id)]
    assert await bench.ids("parked:w") == [order.run_id]
