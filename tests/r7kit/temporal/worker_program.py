"""A worker process. Its arguments: Redis URL, Temporal address, stream, queue, seconds of grace."""

from __future__ import annotations

import sys

from r7kit import worker
from r7kit.config import configure
from r7kit.worker import R7Worker

if __name__ == "__main__":
    url, address, stream, queue, grace = sys.argv[1:]
    vars(worker)["GRACE_S"] = float(grace)
    configure(redis_url=url, temporal_address=address, stream_default=stream)
    R7Worker("tests.r7kit.temporal.flows", queue=queue).start()
