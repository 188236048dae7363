"""What is handed to Temporal's own client and worker as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from temporalio.client import Interceptor, Plugin
    from temporalio.converter import PayloadCodec
    from temporalio.service import TLSConfig


Keywords: TypeAlias = dict[str, Any]
"""Keyword arguments that go to a function of temporalio by `**`."""


@dataclass(frozen=True, slots=True)
class TemporalOptions:
    """Options of the Temporal client and worker that r7kit has no setting for.

    Attributes:
        payload_codec: encrypts or compresses every payload, memos included.
        interceptors: of the client; one that is a worker interceptor as well, such as OpenTelemetry's
            TracingInterceptor, works in the worker too.
        plugins: of the client (and worker).
        tls: certificates, in place of the setting temporal_tls.
        client_options: further keyword arguments of `Client.connect`.
        worker_options: further keyword arguments of `Worker`, such as `deployment_config` for worker versioning.
        passthrough_modules: further modules that the workflow sandbox takes from outside instead of importing anew.
    """

    payload_codec: PayloadCodec | None = None
    interceptors: Sequence[Interceptor] = ()
    plugins: Sequence[Plugin] = ()
    tls: TLSConfig | None = None
    client_options: Mapping[str, object] = field(default_factory=dict)
    worker_options: Mapping[str, object] = field(default_factory=dict)
    passthrough_modules: Sequence[str] = ()


_options = TemporalOptions()


def set_temporal_options(options: TemporalOptions) -> None:
    """Use these options for connections and workers made from now on.

    Both sides need the same codec: call it in a module that the worker and the clients import.

    Raises:
        TypeError: something else was given.
    """
    if not isinstance(options, TemporalOptions):
        raise TypeError(f"options must be TemporalOptions, got {type(options).__name__}")
    global _options
    _options = options


def temporal_options() -> TemporalOptions:
    """The options that hold now."""
    return _options
