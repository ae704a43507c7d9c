"""Brings the checkpoint that the workers have chosen to this node: verified, and converted where it has to be.

An attempt of another number of processes than wrote a checkpoint needs all nodes' files, in DeepSpeed's universal
layout. Every node converts for itself: nothing that was not verified is shared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from finetune_contract.attempt import Attempt
from finetune_trainer.agent.child_words import describe_end
from finetune_trainer.agent.children import run_child
from finetune_trainer.agent.resume import FILE_COMPLETE, Candidate, download_once
from finetune_trainer.agent.site import Site
from finetune_trainer.errors import DamagedError, FineTuneError, StorageError
from finetune_trainer.messages import FetchCheckpoint, Fetched
from finetune_trainer.store.manifest import files_for_resume, files_of_all_nodes

logger = logging.getLogger(__name__)

TRIES = 6
LONGEST_WAIT_SECONDS = 10.0
UNIVERSAL_MODULE = "finetune_trainer.worker.universal"


class Delivery:
    """The checkpoints that one attempt may ask for on this node."""

    def __init__(
        self,
        site: Site,
        attempt: Attempt,
        candidates: Sequence[Candidate],
        send: Callable[[Fetched], None],
        fail: Callable[[FineTuneError], None],
    ) -> None:
        """`send` answers the workers; `fail` ends the attempt, where the store does not answer."""
        self._site = site
        self._position = attempt.node_indexes.index(site.settings.node)
        self._world_size = site.settings.run.for_attempt(attempt).resolved.world_size
        self._candidates = {candidate.folder: candidate for candidate in candidates}
        self._send = send
        self._fail = fail
        self._work: dict[str, asyncio.Task[Fetched]] = {}
        self._answers: set[asyncio.Task[None]] = set()

    def begin(self, name: str) -> None:
        """Start bringing a checkpoint that will probably be asked for."""
        if name in self._candidates and name not in self._work:
            self._work[name] = asyncio.ensure_future(self._bring(self._candidates[name]))

    def receive(self, message: FetchCheckpoint) -> None:
        """Bring what is asked for and answer."""
        answer = asyncio.ensure_future(self._answer(message.name))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [*self._work.values(), *self._answers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, name: str) -> None:
        self.begin(name)
        if name not in self._work:
            self._send(Fetched(name=name, problem=f"it is not in {self._site.store.uri}"))
            return
        try:
            self._send(await self._work[name])
        except FineTuneError as error:
            self._fail(error)

    async def _bring(self, candidate: Candidate) -> Fetched:
        folder = self._site.settings.work_dir / "resume" / candidate.folder
        for older in folder.parent.glob("step-*"):
            if older != folder:
                await asyncio.to_thread(shutil.rmtree, older, ignore_errors=True)
        zero_stage = candidate.manifest.zero_stage
        try:
            if candidate.world_size == self._world_size or zero_stage == 0:
                # At stage 0 every rank holds the whole state.
                place = folder / f"place-{self._position}"
                await self._download(candidate, files_for_resume(candidate.manifest, self._position), place)
                return Fetched(name=candidate.folder, path=str(place))
            await self._download(candidate, files_of_all_nodes(candidate.manifest), folder / "all")
        except DamagedError as error:
            return Fetched(name=candidate.folder, problem=str(error))
        problem = await self._convert(folder / "all", folder / "universal", candidate.digest)
        if problem:
            return Fetched(name=candidate.folder, problem=problem)
        return Fetched(name=candidate.folder, path=str(folder / "universal"), universal=True)

    async def _download(self, candidate: Candidate, files: dict[str, str], folder: Path) -> None:
        """Download; a store that does not answer is tried again. Raises DamagedError, StorageError."""
        trouble = ""
        for count in range(1, TRIES + 1):
            try:
                await asyncio.to_thread(download_once, self._site, candidate, files, folder)
                self._site.board.withdraw(trouble)
                return
            except DamagedError:
                raise
            except StorageError as error:
                if count == TRIES:
                    raise
                self._site.board.withdraw(trouble)
                trouble = f"checkpoint {candidate.folder} is late: {error}"
                self._site.board.warn(trouble)
                await asyncio.sleep(min(2.0**count / 2, LONGEST_WAIT_SECONDS))

    async def _convert(self, source: Path, target: Path, digest: str) -> str:
        """Convert in a process of its own, without credentials; return what went wrong."""
        mark = target / FILE_COMPLETE
        if mark.is_file() and mark.read_text() == digest:
            return ""
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", UNIVERSAL_MODULE, "--input", str(source), "--output", str(target)]
        end = await run_child(command, os.environ, "convert", lambda line: False)
        if end.exit_code != 0:
            return describe_end(end, self._site.settings.node, "converting it to another number of processes").message
        mark.write_text(digest)
        shutil.rmtree(source, ignore_errors=True)
        return ""
