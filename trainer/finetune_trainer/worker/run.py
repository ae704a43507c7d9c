"""The story of a worker, and its end as an exit code. Target of the agent's forkserver.

python: multiprocessing.get_context("forkserver").Process(target=main, args=(task_json, connection))
"""

from __future__ import annotations

import logging
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from transformers.utils import logging as transformers_logging

from finetune_contract.exits import WorkerExit
from finetune_trainer.errors import StoppedError, UserError
from finetune_trainer.logs import Event, speak_to_agent, tell
from finetune_trainer.marks import Marker
from finetune_trainer.messages import Failed, WorkerTask
from finetune_trainer.worker.assemble import assemble
from finetune_trainer.worker.failure import Scene, map_error
from finetune_trainer.worker.finalize import finalize
from finetune_trainer.worker.flops import count_parameters
from finetune_trainer.worker.link import AgentLink
from finetune_trainer.worker.ranks import join, leave
from finetune_trainer.worker.state import TrainerState
from finetune_trainer.worker.story import describe_start
from finetune_trainer.worker.train import Run, train

logger = logging.getLogger(__name__)


def main(task_json: str, connection: Connection) -> NoReturn:
    """Do the task of one worker, speak of it over the connection, and exit with a code of contract.exits."""
    task = WorkerTask.from_json(task_json)
    marker = Marker(task.marks_file, task.local_rank)
    _set_up_logging(task.rank, marker)
    link = AgentLink(connection, task.rank, marker)
    try:
        work(task, link)
        code: int = WorkerExit.DONE
    except BaseException as error:
        code = _tell(error, task, link)
    sys.stdout.flush()
    sys.stderr.flush()
    # Other ranks may be gone, and then nothing that tears down process groups ever ends.
    os._exit(code)


def work(task: WorkerTask, link: AgentLink) -> None:
    """Join, load, resume, train, finalize."""
    began = time.time()
    link.beat("starting", 0)
    run = assemble(task, join(task), link)
    if run.ranks.is_first:
        _tell_start(run)
    earlier = _find_earlier(task, run.state)
    train(run)
    finalize(run, earlier, began)
    leave()


def _tell_start(run: Run) -> None:
    config, rows, steps = run.materials.run, run.schedule.rows, run.schedule.total_steps
    total, trained, _ = count_parameters(run.engine.module)
    resolved = config.resolved
    logger.info(
        "%s",
        describe_start(config, rows, steps, total, trained),
        extra=tell(
            Event.TRAINING_STARTED,
            model=config.spec.model.source,
            task=config.spec.task,
            method=config.spec.strategy.method,
            rows=rows,
            total_steps=steps,
            batch_size=resolved.batch_size,
            world_size=resolved.world_size,
            device=resolved.device,
            precision=resolved.precision,
            zero_stage=resolved.zero_stage,
            parameters=total,
            parameters_trained=trained,
        ),
    )
    step = run.state.step
    began = f"goes on from step {step} of a checkpoint" if step else "begins from the pre-trained model"
    logger.info("training %s", began, extra=tell(Event.RESUMED, step=step))


def _find_earlier(task: WorkerTask, resumed: TrainerState) -> tuple[Path, ...]:
    """Folders of earlier attempts in which the best weights may lie."""
    folders = [Path(task.best_dir)] if task.best_dir else []
    prefix = f"step-{resumed.best.step:08d}"
    # A slot may be written again; the agent has then put the best weights aside.
    held = (Path(offer.path) for offer in task.offers if offer.path and offer.name.startswith(prefix))
    return (*folders, *(folder for folder in held if str(folder) not in task.held_slots))


def _tell(error: BaseException, task: WorkerTask, link: AgentLink) -> int:
    scene = Scene(link.marker.stage, link.marker.step, task.run.resolved)
    known = map_error(error, scene)
    if isinstance(known, StoppedError):
        logger.info("%s", known)
        return int(known.exit_code)
    # A mistake of the user's is not in our code.
    logger.error("rank %d ends: %s", task.rank, known, exc_info=None if isinstance(error, UserError) else error)
    failure = known.to_failure(node=task.node, rank=task.rank)
    if failure.step is None:
        failure = failure.model_copy(update={"phase": scene.stage, "step": scene.step})
    link.send(Failed(failure=failure))
    return int(known.exit_code)


def _set_up_logging(rank: int, marker: Marker) -> None:
    """The story in rank 0's lines, warnings from all; libraries say only what is wrong."""
    speak_to_agent(sys.stdout, story=rank == 0, find_step=lambda: marker.step)
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # New heads are ours on purpose; the report on missing weights would read as an error.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
