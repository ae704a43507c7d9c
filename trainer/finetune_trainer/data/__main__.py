"""`python -m finetune_trainer.data --run RUN.json --work-dir DIR`: prepare a job's data, with storage credentials.

Says JSON lines on stdout (see speech) and exits 0, 10 (the user must change something), 14 (storage), 11 (memory) or 1.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from finetune_contract.run import RunConfig
from finetune_trainer.data.prepare import prepare
from finetune_trainer.data.speech import Speech
from finetune_trainer.errors import FineTuneError, OutOfMemoryError
from finetune_trainer.logs import speak_to_agent

logger = logging.getLogger("finetune_trainer.data")


def main() -> int:
    """Read the arguments, prepare, and answer with an exit code."""
    parser = argparse.ArgumentParser(prog="finetune_trainer.data", description="Prepare the data of a job.")
    parser.add_argument("--run", type=Path, required=True, help="the RunConfig, a JSON file")
    parser.add_argument("--work-dir", type=Path, required=True, help="scratch folder")
    arguments = parser.parse_args()
    speech = _take_stdout()
    # Bars are for terminals; progress is in our own lines. Read when the libraries are imported, which is later.
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    try:
        run = RunConfig.from_json(arguments.run.read_bytes())
        speech.pointer(prepare(run, arguments.work_dir, speech))
    except Exception as error:
        known = _map_error(error)
        if known is not error:
            logger.exception("%s", known)
        speech.failure(known.to_failure())
        return int(known.exit_code)
    return 0


def _take_stdout() -> Speech:
    """Keep stdout for our lines: what libraries print goes to stderr."""
    speech = Speech(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    speak_to_agent(sys.stderr)
    return speech


def _map_error(error: Exception) -> FineTuneError:
    if isinstance(error, FineTuneError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemoryError("data preparation ran out of memory; give the pod more (resources.memory)")
    return FineTuneError(f"data preparation crashed: {type(error).__name__}: {error}; see its log")


if __name__ == "__main__":
    sys.exit(main())
