"""The agent with the tiny worker in the place of the real one: `python -m tests.agent.tiny_agent`."""

from __future__ import annotations

from finetune_trainer.agent.__main__ import main
from finetune_trainer.agent.launcher import Launcher

if __name__ == "__main__":
    main(Launcher(target="tests.agent.tiny_worker.main", preload=()))
