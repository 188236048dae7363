"""What the Redis engine has for operators, put together."""

from __future__ import annotations

from redflow.engines.redis.operations_queues import QueueReads
from redflow.engines.redis.operations_reads import RunReads
from redflow.engines.redis.operations_runs import RunRepairs
from redflow.engines.redis.operations_schedules import Schedules
from redflow.engines.redis.operations_workers import Workers


class RedisOperations(RunRepairs, RunReads, QueueReads, Schedules, Workers):
    """See `redflow.engine_operations.Operations`; of one shard or of all."""
