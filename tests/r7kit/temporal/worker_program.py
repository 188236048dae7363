"""A worker process. Its arguments: Redis URL, Temporal address, stream, queue."""

from __future__ import annotations

import sys

from r7kit.config import configure
from r7kit.worker import R7Worker

if __name__ == "__main__":
    url, address, stream, queue = sys.argv[1:]
    configure(redis_url=url, temporal_address=address, stream_default=stream)
    R7Worker("tests.r7kit.temporal.flows", queue=queue).start()
