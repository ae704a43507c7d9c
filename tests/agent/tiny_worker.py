"""A worker without tensors that speaks the real protocol and writes real files, for tests of the agent alone.

What it shall do wrong stands in `behaviour.json` of its data folder: {"rank": 0, "step": 3, "how": "kill" | "raise" |
"user-error" | "out-of-memory" | "hang"}. With several ranks a failing one makes the others report a lost peer.
"halt" (SIGSTOP) and "sleep" (with "stage") stop one rank without a word, and the others wait for it. "linger" (with
"stage") stays there until it is asked to stop. Step 0 is before training, the one after the last is the finalizing.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from finetune_contract.document import Document
from finetune_contract.progress import EvaluationResult, StepProgress
from finetune_trainer.errors import DataError, OutOfMemoryError, PeerLostError, StoppedError
from finetune_trainer.marks import Marker
from finetune_trainer.messages import (
    AgentEnvelope,
    Envelope,
    Evaluated,
    Failed,
    FetchCheckpoint,
    Fetched,
    Finalized,
    Heartbeat,
    Logged,
    Offer,
    Resumed,
    SnapshotReady,
    Stop,
    WorkerMessage,
    WorkerTask,
)
from tests.publish.make import make_final

STEP_SECONDS = 0.02
FOREVER = 3600.0
EVALUATE_EVERY = 5
SHARD_BYTES = 100_000


class State(Document):
    """Where the run stands."""

    step: int = 0
    samples: int = 0


def main(task_json: str, connection: Connection) -> None:
    """Train, evaluate, save, finalize; the exit code says how it ended."""
    worker = _Worker(WorkerTask.from_json(task_json), connection)
    try:
        worker.run()
    except (StoppedError, DataError, OutOfMemoryError, PeerLostError) as error:
        if not isinstance(error, StoppedError):
            worker.say(Failed(failure=error.to_failure(rank=worker.task.rank)))
        sys.exit(int(error.exit_code))


class _Worker:
    def __init__(self, task: WorkerTask, connection: Connection) -> None:
        self.task = task
        self._connection = connection
        self._marker = Marker(task.marks_file, task.local_rank)
        self._stop = threading.Event()
        self._fetched: queue.SimpleQueue[Fetched] = queue.SimpleQueue()
        self._behaviour: dict[str, Any] = {}
        behaviour = Path(task.data_dir) / "behaviour.json"
        if behaviour.exists() and task.attempt == 1:
            self._behaviour = json.loads(behaviour.read_text())
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, message: WorkerMessage) -> None:
        self._connection.send_bytes(Envelope(message=message).to_json().encode())

    def run(self) -> None:
        print(f"worker {self.task.rank} of {self.task.world_size} begins")
        print("credentials seen:", sorted(name for name in os.environ if name.startswith("AWS_")))
        state = self._resume()
        self._misbehave(0)
        saved, last = state.step, self.task.run.resolved.max_steps or 20
        while state.step < last:
            if self._stop.is_set():
                # As the real one: what is saved is not saved again, and keeps its evaluation.
                if state.step > saved:
                    self._save(state, {})
                raise StoppedError("stopped")
            state = State(step=state.step + 1, samples=state.samples + 8)
            self._marker.enter("forward", state.step)
            time.sleep(STEP_SECONDS)
            self._misbehave(state.step)
            self._marker.finish_step(STEP_SECONDS)
            self._tell(state, last)
            if state.step % EVALUATE_EVERY == 0 or state.step == last:
                self._save(state, {"f1": state.step / (last + 1)})
                saved = state.step
        self._finalize(last)

    def _resume(self) -> State:
        state, skipped = State(), []
        for offer in self.task.offers:
            fetched = self._fetch(offer)
            if fetched.path is not None:
                folder = Path(fetched.path)
                state = State.from_json((folder / "trainer_state.json").read_text())
                assert len((folder / f"shard-{self.task.rank}.bin").read_bytes()) == SHARD_BYTES
                break
            skipped.append(f"checkpoint {offer.name} is passed over: {fetched.problem}")
        if self.task.rank == 0:
            self.say(Resumed(step=state.step, skipped=tuple(skipped)))
        return state

    def _fetch(self, offer: Offer) -> Fetched:
        if offer.path is not None:
            return Fetched(name=offer.name, path=offer.path)
        self.say(FetchCheckpoint(name=offer.name, world_size=self.task.world_size))
        while (fetched := self._fetched.get()).name != offer.name:
            pass
        return fetched

    def _tell(self, state: State, last: int) -> None:
        self.say(Heartbeat(rank=self.task.rank, phase="training", step=state.step, at=time.time()))
        if self.task.rank == 0:
            progress = StepProgress(step=state.step, total_steps=last, loss=1 / state.step, step_seconds=STEP_SECONDS)
            self.say(
                Logged(
                    progress=progress,
                    tokens_total=state.step * 100,
                    samples_total=state.samples,
                    data_wait_seconds=0.1,
                    save_stall_seconds=0.2,
                )
            )

    def _save(self, state: State, metrics: dict[str, float]) -> None:
        folder = Path(self.task.attempt_dir) / "snapshots" / f"step-{state.step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        shard = f"shard-{self.task.rank}.bin"
        (folder / shard).write_bytes(bytes([self.task.rank]) * SHARD_BYTES)
        files = [shard]
        if self.task.rank == 0:
            (folder / "weights").mkdir(exist_ok=True)
            (folder / "weights" / "model.safetensors").write_bytes(str(state.step).encode() * 1000)
            (folder / "trainer_state.json").write_text(state.to_json())
            files += ["weights/model.safetensors", "trainer_state.json"]
            if metrics:
                self.say(Evaluated(step=state.step, split="validation", metrics=metrics, best=True))
        leads = self.task.rank == 0
        self.say(
            SnapshotReady(
                rank=self.task.rank,
                step=state.step,
                folder=str(folder),
                files=tuple(files),
                metrics=metrics if leads else {},
                best=leads and bool(metrics),
                state={"consumed_samples": state.samples, "world_size": self.task.world_size} if leads else {},
            )
        )

    def _finalize(self, last: int) -> None:
        self._marker.enter("finalizing")
        self.say(Heartbeat(rank=self.task.rank, phase="finalizing", step=last, at=time.time()))
        self._misbehave(last + 1)
        if self._stop.is_set():
            raise StoppedError("stopped")
        if self.task.rank != 0:
            return
        attempt_dir = Path(self.task.attempt_dir)
        export = attempt_dir / "export"
        export.mkdir(parents=True, exist_ok=True)
        (export / "config.json").write_text("{}")
        (export / "model.safetensors").write_bytes(b"w" * 5000)
        evaluation = EvaluationResult(validation={"f1": 0.9}, test={"f1": 0.9, "accuracy": 0.9}, step=last)
        final = make_final(evaluation=evaluation, best_step=last, total_steps=last)
        (attempt_dir / "evaluation.json").write_text(final.to_json())
        self.say(Finalized(step=last))

    def _misbehave(self, step: int) -> None:
        if self._behaviour.get("step") != step:
            return
        if self._behaviour["rank"] != self.task.rank:
            if self._behaviour["how"] in {"halt", "sleep"}:
                self._marker.enter("waiting")
                time.sleep(FOREVER)
            raise PeerLostError("another worker is gone")
        match self._behaviour["how"]:
            case "kill":
                print("about to die")
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError("a fault of ours")
            case "user-error":
                raise DataError("row 7 has no label; remove it")
            case "out-of-memory":
                raise OutOfMemoryError("memory did not suffice")
            case "halt":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                self._marker.enter(self._behaviour["stage"])
                time.sleep(FOREVER)
            case "linger":
                self._marker.enter(self._behaviour["stage"])
                self.say(Heartbeat(rank=self.task.rank, phase=self._behaviour["stage"], step=step, at=time.time()))
                self._stop.wait()
            case "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.pause()

    def _listen(self) -> None:
        try:
            while True:
                message = AgentEnvelope.from_json(self._connection.recv_bytes()).message
                if isinstance(message, Stop):
                    self._stop.set()
                elif isinstance(message, Fetched):
                    self._fetched.put(message)
        except (EOFError, OSError):
            os._exit(13)
