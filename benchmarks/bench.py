"""The stage of a benchmark: its server, a prefix of its own for each repetition, and worker processes."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from benchmarks.environment import describe, load_average
from benchmarks.harness import RESULTS, BenchmarkError, Figures, Report, Settings
from benchmarks.worker import WORKFLOWS, WorkerProcess, WorkerSettings, run_on, worker_process
from benchmarks.workflows import APP, REGISTRY
from redflow import RedflowClient, WorkflowRegistry, create_client
from tests.support.servers import ServerKind, ServerOptions, ServerProcess

_LOOPS: Final = ("asyncio", "uvloop")
_PERSISTENCES: Final = ("none", "everysec", "always")


class Bench:
    """What a benchmark measures with.

    Attributes:
        settings: how it is run.
        figures: where its values go.
        url: of the server.
        redis: a plain connection to the server, for INFO and the like.
    """

    def __init__(self, settings: Settings, url: str, redis: Redis) -> None:
        self.settings = settings
        self.figures = Figures()
        self.url = url
        self.redis = redis

    @asynccontextmanager
    async def world(self, registry: WorkflowRegistry = REGISTRY) -> AsyncIterator[RedflowClient]:
        """A client on a fresh prefix, with the measured workflows registered; its keys are removed at the end."""
        client = create_client(app=APP, url=self.url, prefix=f"bench:{secrets.token_hex(4)}")
        try:
            await client.sync_registry(registry, app=APP)
            yield client
            await client.reset_state()
        finally:
            await client.close()

    def worker(
        self, client: RedflowClient, concurrency: int, workflows: str = WORKFLOWS
    ) -> AbstractAsyncContextManager[WorkerProcess]:
        """A worker process on the client's prefix, loaded and not yet started; it knows that module's workflows."""
        settings = self.settings
        return worker_process(
            WorkerSettings(self.url, client.prefix, concurrency, settings.loop, settings.profile, workflows)
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: also the name of its module.
        title: what it measures, one line.
        measure: does it, and puts values into the bench's figures.
        full: settings when it is run by itself.
        short: settings of `make bench`.
    """

    name: str
    title: str
    measure: Callable[[Bench], Awaitable[None]]
    full: Settings
    short: Settings

    def run(self, settings: Settings) -> Report:
        """Measure.

        Raises:
            BenchmarkError: something was lost or wrong.
        """
        before = load_average()
        with _server_url(settings) as url, run_on(settings.loop) as runner:
            figures, environment = runner.run(self._on_server(settings, url))
        return Report(self.name, self.title, settings, environment, before, load_average(), figures)

    async def _on_server(self, settings: Settings, url: str) -> tuple[Figures, dict[str, str]]:
        async with Redis.from_url(url) as redis:
            bench = Bench(settings, url, redis)
            await self.measure(bench)
            return bench.figures, await describe(redis, settings.loop)


@contextmanager
def _server_url(settings: Settings) -> Iterator[str]:
    """The given server, or one that is started for this benchmark and removed after it."""
    if settings.url is not None:
        yield settings.url
        return
    appendonly = settings.persistence != "none"
    options = ServerOptions(
        appendonly=appendonly, config=(f"appendfsync {settings.persistence}",) if appendonly else ()
    )
    with ServerProcess(ServerKind(settings.server), options) as server:
        yield server.url


def add_options(parser: argparse.ArgumentParser, defaults: Settings | None = None) -> None:
    """The options that every command has; those left out keep the benchmark's own value."""

    def text(name: str) -> str:
        return "" if defaults is None else f" (default: {getattr(defaults, name):g})"

    parser.add_argument("--n", type=int, help="size of one repetition" + text("n"))
    parser.add_argument("--reps", type=int, help="repetitions" + text("reps"))
    parser.add_argument("--concurrency", type=int, help="slots of the worker" + text("concurrency"))
    parser.add_argument("--seconds", type=float, help="how long to watch, where a benchmark watches" + text("seconds"))
    parser.add_argument("--loop", choices=_LOOPS, help="event loop of client and worker (default: asyncio)")
    parser.add_argument("--url", help="measure on this running server; without it one is started")
    parser.add_argument("--server", choices=[kind.value for kind in ServerKind], help="which server to start")
    parser.add_argument("--persistence", choices=_PERSISTENCES, help="append-only file of the started server, by fsync")
    parser.add_argument("--profile", metavar="FILE", help="write the worker's cProfile there")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIRECTORY", help="where the JSON goes")


def chosen(defaults: Settings, options: argparse.Namespace) -> Settings:
    """The benchmark's settings with what the command line says in place of them."""
    names = ("n", "reps", "concurrency", "seconds", "loop", "url", "server", "persistence", "profile")
    return replace(defaults, **{name: getattr(options, name) for name in names if getattr(options, name) is not None})


def main(benchmark: Benchmark) -> int:
    """The command of one benchmark; its exit status is 1 when the measurement does not count."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.title)
    add_options(parser, benchmark.full)
    options = parser.parse_args()
    return 1 if run_and_show(benchmark, chosen(benchmark.full, options), options.results) is None else 0


def run_and_show(benchmark: Benchmark, settings: Settings, results: Path) -> Report | None:
    """Run a benchmark, print its report and write it as JSON; None, and the reason is printed, if it doesn't count."""
    try:
        report = benchmark.run(settings)
    except BenchmarkError as exc:
        print(f"== {benchmark.name}: failed: {exc}", file=sys.stderr)
        return None
    print(report.text())
    print(f"   {report.save(results)}\n", flush=True)
    return report
