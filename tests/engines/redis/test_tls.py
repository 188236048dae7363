"""TLS: everything works over rediss://, and who can't show the right certificate is refused in one clear line."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from redflow import create_client
from redflow.errors import ConnectionError
from tests.support.clusters import RedisCluster, ask
from tests.support.core_scenarios import CORE, Scenario, name_of
from tests.support.servers import ServerKind, ServerProcess, wait_until
from tests.support.tls import Authority, Certificate, TlsFront
from tests.support.world import World, impatient, judged


@dataclass(frozen=True, slots=True)
class Papers:
    """Two authorities and what the trusted one issued."""

    trusted: Path
    other: Path
    server: Certificate
    client: Certificate


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Made by openssl in a moment."""
    directory = tmp_path_factory.mktemp("tls")
    authority, other = Authority(directory, "authority"), Authority(directory, "other")
    server = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
    return Papers(authority.root.cert, other.root.cert, server, authority.issue("client"))


@pytest.fixture(scope="module")
def front(server: ServerProcess, papers: Papers) -> Iterator[TlsFront]:
    """TLS in front of the shared server."""
    with TlsFront(server.port, papers.server) as front:
        yield front


def url_of(front: TlsFront, host: str = "localhost", **options: object) -> str:
    """A rediss:// URL."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
    return f"rediss://{host}:{front.port}/0?{query}"


async def refusal(url: str, *, tried_again: bool = False) -> str:
    """What a client says who may not in: one line. At once where waiting helps nobody."""
    client = create_client(url=url, prefix="refused")
    client = impatient(client) if tried_again else client
    began = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        await client.get_stats()
    assert tried_again or time.monotonic() - began < 2.5, "it was tried again and again"
    await client.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
async def world(front: TlsFront, papers: Papers, redis_url: str, prefix: str) -> AsyncIterator[World]:
    """A prefix of the shared server, worked at over TLS. Judged at the end."""
    async with judged(World(url_of(front, ssl_ca_certs=papers.trusted), prefix, direct=redis_url)) as world:
        yield world


@pytest.mark.parametrize("scenario", CORE, ids=name_of)
async def test_core(world: World, scenario: Scenario) -> None:
    await scenario(world)


async def test_a_certificate_of_somebody_else_is_refused(front: TlsFront, papers: Papers) -> None:
    assert await refusal(url_of(front, ssl_ca_certs=papers.other)) == (
        f"can't use rediss://localhost:{front.port}: the server's certificate is refused: "
        "unable to get local issuer certificate"
    )


async def test_the_systems_authorities_are_trusted_and_no_others(front: TlsFront) -> None:
    assert "certificate is refused" in await refusal(url_of(front))


async def test_the_certificate_must_name_the_host(server: ServerProcess, papers: Papers) -> None:
    with TlsFront(server.port, papers.client) as nameless:
        text = await refusal(url_of(nameless, ssl_ca_certs=papers.trusted))
        assert "certificate is refused: Hostname mismatch" in text
        url = url_of(nameless, ssl_ca_certs=papers.trusted, ssl_check_hostname="false")
        client = create_client(url=url, prefix="nameless")
        assert (await client.get_stats())["total"] == 0
        await client.close()


async def test_the_check_can_be_given_up(front: TlsFront) -> None:
    client = create_client(url=url_of(front, ssl_cert_reqs="none", ssl_check_hostname="false"), prefix="unchecked")
    assert (await client.get_stats())["total"] == 0
    await client.close()


async def test_a_server_that_asks_for_a_certificate(server: ServerProcess, papers: Papers) -> None:
    with TlsFront(server.port, papers.server, client_ca=papers.trusted) as strict:
        text = await refusal(url_of(strict, ssl_ca_certs=papers.trusted), tried_again=True)
        assert "ssl_certfile" in text or "certificate required" in text
        url = url_of(
            strict, ssl_ca_certs=papers.trusted, ssl_certfile=papers.client.cert, ssl_keyfile=papers.client.key
        )
        client = create_client(url=url, prefix="known")
        assert (await client.get_stats())["total"] == 0
        await client.close()


async def test_a_server_without_tls(server: ServerProcess, papers: Papers) -> None:
    url = f"rediss://localhost:{server.port}?ssl_ca_certs={papers.trusted}&socket_connect_timeout=0.5"
    assert "does that port speak TLS?" in await refusal(url, tried_again=True)


async def test_a_cluster_behind_tls(server_kind: ServerKind, papers: Papers) -> None:
    """The nodes tell the addresses of their TLS ports, and the way to the right one is encrypted as well."""
    if server_kind is ServerKind.REDIS62:
        pytest.skip("a node of Redis 6.2 does not tell the others of a port that it announces later than at its start")
    with ExitStack() as stack:
        cluster = stack.enter_context(RedisCluster(server_kind))
        fronts = [stack.enter_context(TlsFront(node.port, papers.server)) for node in cluster.nodes]
        for node, front in zip(cluster.nodes, fronts, strict=True):
            ask(node, "CONFIG", "SET", "cluster-announce-port", front.port)
        wait_until(
            lambda: all(str(front.port).encode() in ask(cluster.nodes[1], "CLUSTER", "NODES") for front in fronts),
            timeout_s=15,
            what="the announced ports",
        )
        prefix = cluster.prefix_on(0, "tls")
        url = f"redis+cluster://127.0.0.1:{fronts[1].port}?ssl=true&ssl_ca_certs={papers.trusted}"
        world = World(url, prefix, direct=cluster.nodes[0].url)
        try:
            await CORE[0](world)
            assert await world.key_count() > 0
        finally:
            await world.close()
        other = url.replace(str(papers.trusted), str(papers.other))
        assert "certificate is refused: unable to get local issuer certificate" in await refusal(other)
