"""The scratch folder of one local run: the files that a pod would have, and the lock that keeps a second run away.

<work dir>/<job>/run.json       what the agent is told
<work dir>/<job>/annotations/   attempt, stop, finish, as a downwardAPI volume would show them
<work dir>/<job>/work/          the agent's scratch: downloads, snapshots, logs of every rank
<work dir>/<job>/agent.log      the output of agent and workers
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.errors import RunError
from finetune_contract import names


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a local run lie; all paths are absolute."""

    root: Path

    @property
    def run_file(self) -> Path:
        """The RunConfig."""
        return self.root / names.RUN_CONFIG_FILE

    @property
    def annotations(self) -> Path:
        """Folder of attempt, stop, finish."""
        return self.root / "annotations"

    @property
    def work(self) -> Path:
        """The agent's scratch."""
        return self.root / "work"

    @property
    def log(self) -> Path:
        """Output of the agent and its workers, of the newest attempt last."""
        return self.root / "agent.log"

    def annotate(self, name: str, text: str) -> None:
        """Write one annotation file so that no reader sees half of it; an empty text takes it back."""
        unfinished = self.annotations / f".{name}"
        unfinished.write_text(text)
        unfinished.replace(self.annotations / name)

    def reset(self) -> None:
        """No annotation stands; scratch and logs of earlier attempts stay."""
        self.annotations.mkdir(parents=True, exist_ok=True)
        for name in (names.FILE_ATTEMPT, names.FILE_STOP, names.FILE_FINISH):
            self.annotate(name, "")

    def clear(self) -> None:
        """Remove scratch and logs of earlier attempts; the lock file stays."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.log.unlink(missing_ok=True)


@contextmanager
def lock_run(folder: RunFolder) -> Iterator[int]:
    """Hold the folder; yields the lock's descriptor, which the agent inherits, so that it holds as long as it lives.

    Raises RunError when another run of the same name holds it.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    with (folder.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"a run of this name works in {folder.root} already",
                "wait for it or stop it with Ctrl-C; another job needs another metadata.name",
            ) from error
        yield lock.fileno()
