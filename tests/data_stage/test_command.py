"""`python -m finetune_trainer.data`: its lines, its exit codes, and the Hub by its real client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.data_stage.hub_server import COMMIT, serve_hub
from tests.data_stage.make import make_rows, make_stage, run_command, write_rows


def test_the_command_says_json_lines_and_ends_with_the_pointer(tmp_path: Path, encoder: Path) -> None:
    code, said = run_command(make_stage(tmp_path, encoder))
    stages = [line["progress"]["stage"] for line in said if "progress" in line]
    assert code == 0
    assert list(dict.fromkeys(stages)) == [
        "find", "read train", "tokenize train", "tokenize validation", "tokenize test", "store", "model",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "out" / "job" / "prepared.json").read_text())
    assert said[-1] == {"pointer": stored}


def test_the_commands_failure_has_class_reason_and_exit_code(tmp_path: Path, encoder: Path) -> None:
    code, said = run_command(make_stage(tmp_path, encoder, columns={"text": "text", "label": "klass"}))
    failure = said[-1]["failure"]
    assert (code, failure["failureClass"], failure["reason"], failure["exitCode"]) == (10, "User", "DataError", 10)


def test_a_users_mistake_is_told_without_importing_torch(tmp_path: Path, encoder: Path) -> None:
    stage = make_stage(tmp_path, encoder, columns={"text": "text", "label": "klass"})
    (tmp_path / "run.json").write_text(stage.run.to_json())
    program = (
        "import sys; sys.argv = ['data', '--run', sys.argv[1], '--work-dir', sys.argv[2]]\n"
        "from finetune_trainer.data.__main__ import main\n"
        "code = main(); sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "run.json", tmp_path / "w"], check=False)
    assert done.returncode == 10


def test_model_and_rows_come_from_the_hub_and_the_model_is_copied_once(tmp_path: Path, encoder: Path) -> None:
    write_rows(tmp_path / "mails" / "train.jsonl", make_rows())
    stage = make_stage(
        tmp_path,
        encoder,
        data={"train": {"source": "hf://acme/mails"}},
        spec={"model": {"source": "hf://acme/tiny"}},
    )
    with serve_hub({"models/acme/tiny": encoder, "datasets/acme/mails": tmp_path / "mails"}) as address:
        code, said = run_command(stage, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"))
    assert code == 0
    pointer = said[-1]["pointer"]
    assert (pointer["modelRevision"], pointer["summary"]["parts"]["train"]["read"]) == (COMMIT, 40)
    (copy,) = (tmp_path / "out" / "models").iterdir()
    assert pointer["modelUri"] == f"file://{copy}"
    assert sorted(path.name for path in copy.iterdir()) == sorted(path.name for path in encoder.iterdir())


def test_a_model_that_the_hub_does_not_have_is_a_users_error(tmp_path: Path, encoder: Path) -> None:
    stage = make_stage(tmp_path, encoder, spec={"model": {"source": "hf://acme/none"}})
    with serve_hub({}) as address:
        code, said = run_command(stage, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"))
    assert code == 10
    assert said[-1]["failure"]["message"].startswith("model.source: hf://acme/none at main cannot be read from the Hub")
