"""The data converter: pydantic's, with a limit on sizes.

Temporal takes no more than 2 MiB in one place of a history. What is larger would be refused when the flow's step is
sent, and tried for ever; here it is an error of the call that brings it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.exceptions import ApplicationError

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Payload
    from temporalio.converter import DataConverter, PayloadCodec

TOO_LARGE: Final = "PayloadTooLargeError"
"""The error's type in a history."""

LIMIT_BYTES: Final = 2 * 1024 * 1024 - 64 * 1024
"""Of all arguments of one call, or one result. What is missing to 2 MiB is for a codec and for metadata."""


class BoundedPayloadConverter(PydanticPayloadConverter):
    """Refuses values that are too large for a history."""

    def to_payloads(self, values: Sequence[object]) -> list[Payload]:
        """See temporalio's.

        Raises:
            ApplicationError: of the type PayloadTooLargeError, never to be tried again.
        """
        payloads: list[Payload] = super().to_payloads(values)
        size = sum(len(payload.data) for payload in payloads)
        if size > LIMIT_BYTES:
            raise ApplicationError(
                f"{size} bytes of JSON in one call or result; Temporal takes {LIMIT_BYTES}",
                type=TOO_LARGE,
                non_retryable=True,
            )
        return payloads


def data_converter(codec: PayloadCodec | None) -> DataConverter:
    """The converter of clients and workers.

    Args:
        codec: encrypts or compresses what was converted; None: nothing does.
    """
    return dataclasses.replace(
        pydantic_data_converter, payload_converter_class=BoundedPayloadConverter, payload_codec=codec
    )
