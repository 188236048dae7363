"""A worker of one queue: `python -m examples.r7kit.worker producer-queue`.

The engine comes from R7KIT_ENGINE, Redis from REDIS_URL, Temporal from TEMPORAL_ADDRESS.
"""

from __future__ import annotations

import sys

from r7kit.worker import R7Worker

if __name__ == "__main__":
    R7Worker("examples.r7kit.flows", queue=sys.argv[1]).start()
