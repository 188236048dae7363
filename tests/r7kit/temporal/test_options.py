"""What is handed through to Temporal: payload codec, interceptors, plain workflows beside ours, worker options."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.api.common.v1 import Payload
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

from r7kit import config
from r7kit.engines import close_engines
from r7kit.exceptions import TemporalNotConnected
from r7kit.runtimes.temporal import TemporalOptions, set_temporal_options
from tests.r7kit.temporal import flows
from tests.r7kit.temporal.stage import Stage
from tests.support.temporal import OTHER_NAMESPACE, TemporalProcess
from tests.support.world import eventually


class Hides(PayloadCodec):
    """A codec that nobody should take for encryption."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"hidden"}, data=base64.b64encode(payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload.FromString(base64.b64decode(payload.data)) if payload.metadata["encoding"] == b"hidden" else payload
            for payload in payloads
        ]


@pytest.fixture(autouse=True)
def no_options() -> Iterator[None]:
    yield
    set_temporal_options(TemporalOptions())


async def test_a_payload_codec_hides_everything(
    settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> None:
    config.configure(temporal_address=temporal.address)
    set_temporal_options(TemporalOptions(payload_codec=Hides()))
    async with Stage(prefix) as stage:
        handle, uuid = await stage.start(flows.Echo, "VERYSECRET", payload={"given": "VERYSECRET"})
        assert await handle.result() == ["VERYSECRET"] * 3
        history = (await handle.fetch_history()).to_json()
        assert "VERYSECRET" not in history
        assert base64.b64encode(b"VERYSECRET").decode() not in history
        assert uuid in history  # the id is no payload


async def test_traces_go_through_client_flow_and_activities(
    settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    config.configure(temporal_address=temporal.address)
    set_temporal_options(TemporalOptions(interceptors=[TracingInterceptor(provider.get_tracer("test"))]))
    async with Stage(prefix) as stage:
        assert await stage.run(flows.MyFlow, payload={"input": 1}) == 2
    spans = exporter.get_finished_spans()
    names = {span.name for span in spans}
    assert {"StartWorkflow:MyFlow", "RunWorkflow:MyFlow", "RunActivity:r7kit.patch"} <= names
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1


async def test_plain_workflows_beside_ours(settings: config.Settings, temporal: TemporalProcess, prefix: str) -> None:
    config.configure(temporal_address=temporal.address)
    async with Stage(prefix, "tests.r7kit.packages.good") as stage:
        client = await stage.client()
        assert await client.execute_workflow("Plain", 1, id=f"{prefix}-plain", task_queue=prefix) == 2
        assert await client.execute_workflow("Deep", id=f"{prefix}-deep", task_queue=prefix) == 3


async def test_another_namespace_and_few_slots(
    settings: config.Settings, temporal: TemporalProcess, prefix: str
) -> None:
    config.configure(temporal_address=temporal.address, temporal_namespace=OTHER_NAMESPACE)
    async with Stage(prefix, concurrency=1) as stage:
        handles = [await stage.start(flows.MyFlow, payload={"input": number}) for number in range(3)]
        assert [await handle.result() for handle, _ in handles] == [0, 2, 4]
        assert (await stage.client()).namespace == OTHER_NAMESPACE


async def test_tls_where_there_is_none(settings: config.Settings, temporal: TemporalProcess) -> None:
    config.configure(temporal_address=temporal.address, temporal_api_key="VERYSECRET")  # turns TLS on
    with pytest.raises(TemporalNotConnected, match=temporal.address) as caught:
        await flows.Child.start()
    assert "VERYSECRET" not in repr(caught.value)
    await close_engines()


async def test_worker_versioning(settings: config.Settings, temporal: TemporalProcess, prefix: str) -> None:
    version = WorkerDeploymentVersion(deployment_name=prefix, build_id="1")
    versioning = WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )
    config.configure(temporal_address=temporal.address)
    set_temporal_options(TemporalOptions(worker_options={"deployment_config": versioning}))
    async with Stage(prefix) as stage:
        client = await stage.client()

        async def made_current() -> bool:
            request = SetWorkerDeploymentCurrentVersionRequest(
                namespace="default", deployment_name=prefix, build_id="1", ignore_missing_task_queues=True
            )
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:  # the server has not heard of the worker yet
                return False
            return True

        await eventually(made_current, "the version")
        handle, _ = await stage.start(flows.MyFlow, payload={"input": 1})
        assert await handle.result() == 2
        history = await handle.fetch_history()
        completed = [e for e in history.events if e.HasField("workflow_task_completed_event_attributes")]
        used = completed[0].workflow_task_completed_event_attributes.deployment_version
        assert (used.deployment_name, used.build_id) == (prefix, "1")


def test_only_options() -> None:
    with pytest.raises(TypeError, match="TemporalOptions"):
        set_temporal_options({})  # type: ignore[arg-type]
