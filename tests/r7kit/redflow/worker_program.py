"""A worker process. Its arguments: engine, Redis URL, Temporal address or "", stream, queue."""

from __future__ import annotations

import sys

from r7kit.config import configure
from r7kit.worker import R7Worker

if __name__ == "__main__":
    engine, url, address, stream, queue = sys.argv[1:]
    configure(engine=engine, redis_url=url, temporal_address=address or None, stream_default=stream)
    R7Worker("tests.r7kit.redflow.flows", queue=queue).start()
