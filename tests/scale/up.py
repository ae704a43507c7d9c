"""`python -m tests.scale.up`: a world to try things in, until Ctrl-C.

python -m tests.scale.up --jobs 200 --script hold          an operator and 200 training jobs
python -m tests.scale.up --no-operator                     start your own: the command is printed
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import ExitStack

from tests.contract.server import JOBS
from tests.scale.api import Api
from tests.scale.words import HOLD, MOVE, RUN
from tests.scale.world import World, make_job, run_world


async def apply(world: World, jobs: list[dict[str, object]]) -> None:
    """Apply jobs, many at a time."""
    api = Api(world.server.kubeconfig, "scale-user")
    try:
        await asyncio.gather(*(api.request("POST", JOBS, job) for job in jobs))
    finally:
        await api.close()


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=2, help="nodes of each job")
    parser.add_argument("--script", choices=(RUN, HOLD, MOVE), default=HOLD, help="see tests/scale/words.py")
    parser.add_argument("--no-operator", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        world = stack.enter_context(run_world())
        print(f"export KUBECONFIG={world.server.kubeconfig} FINETUNE_OPERATOR_AGENT_PORT={world.agent_port}")
        print(f"agents: http://127.0.0.1:{world.agent_port}/journal   logs: {world.folder}")
        if options.no_operator:
            print(f"operator: POD_NAMESPACE=default POD_NAME=first {sys.executable} -m finetune_operator")
        else:
            operator = stack.enter_context(world.run_operator())
            print(f"operator: pid {operator.process.pid}, metrics http://127.0.0.1:{operator.metrics_port}/metrics")
        jobs = [make_job(f"job-{number}", options.script, options.nodes) for number in range(options.jobs)]
        asyncio.run(apply(world, jobs))
        print(f"{len(jobs)} jobs applied; this is process {os.getpid()}, Ctrl-C or SIGTERM ends the world", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("taking the world down")


if __name__ == "__main__":
    main()
