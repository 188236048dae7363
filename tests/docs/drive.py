"""Runs one workflow of a file on a worker of its own and prints how that ended: `drive.py FILE NAME INPUT`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path

from redflow import CanceledError, RedflowError, StartWorkerOptions, create_client, start_worker


async def drive(name: str, text: str) -> str:
    """The output as JSON, or `failed KIND`, or `canceled`."""
    worker = await start_worker(StartWorkerOptions(app="docs", concurrency=5))
    client = create_client()
    try:
        handle = await client.emit_workflow(name, json.loads(text))
        return json.dumps(await handle.result())
    except CanceledError:
        return "canceled"
    except RedflowError as exc:
        return f"failed {exc if exc.error is None else exc.error['kind']}"
    finally:
        await worker.stop()
        await client.close()


if __name__ == "__main__":
    file, workflow, input_text = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    importlib.import_module(Path(file).stem)
    sys.stdout.write(f"=> {asyncio.run(drive(workflow, input_text))}\n")
