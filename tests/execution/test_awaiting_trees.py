"""Any tree of constructs: where nothing is seen to be about to run, nothing runs."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from redflow.execution.awaiting import Runnable
from tests.support.tasks import PASSES, Future, end_all, seen, start

# A tree is a number, which stands for a future, or a construct over trees.
Tree = int | tuple[str, "list[Tree]"]
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.integers(0, 3),
    lambda below: st.tuples(
        st.sampled_from(["gather", "gather-errors", "group", "wait-all", "wait-first", "shield", "wait-for", "task"]),
        st.lists(below, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


async def grow(tree: Tree, futures: list[Future]) -> object:
    if isinstance(tree, int):
        return await asyncio.shield(futures[tree])
    kind, parts = tree
    below = [grow(part, futures) for part in parts]
    if kind == "gather":
        return await asyncio.gather(*below)
    if kind == "gather-errors":
        return await asyncio.gather(*below, return_exceptions=True)
    if kind == "group":
        async with asyncio.TaskGroup() as group:
            return [group.create_task(one) for one in below]
    tasks = [start(one) for one in below]
    if kind == "wait-all":
        return await asyncio.wait(tasks)
    if kind == "wait-first":
        return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if kind == "shield":
            await asyncio.shield(task)
        elif kind == "wait-for":
            await asyncio.wait_for(task, 60)
        else:
            await task
    return None


async def _check_tree(tree: Tree, ends: list[tuple[int, bool]]) -> None:
    loop = asyncio.get_running_loop()
    futures: list[Future] = [loop.create_future() for _ in range(4)]
    task = start(grow(tree, futures))
    for index, fails in [(0, False), *ends]:
        for _ in range(PASSES):
            before = seen(task)
            if not any(isinstance(leaf, Runnable) for leaf in before):
                break
            await asyncio.sleep(0)
        # At rest means at rest: what is awaited are open futures, and no pass of the loop changes anything.
        for _ in range(PASSES):
            await asyncio.sleep(0)
        assert seen(task) == before
        assert before <= {future for future in futures if not future.done()}
        assert bool(before) is not task.done()
        if not futures[index].done():
            if fails:
                futures[index].set_exception(LookupError())
            else:
                futures[index].set_result(None)
    await end_all(futures)


@settings(max_examples=150, deadline=None)
@example(tree=("group", [2, ("wait-for", [1])]), ends=[(2, True), (0, False)])  # a wait_for that is canceled
@given(tree=TREES, ends=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=5))
def test_rest_is_rest_in_any_tree(tree: Tree, ends: list[tuple[int, bool]]) -> None:
    asyncio.run(_check_tree(tree, ends))
