"""The command as a shell sees it: what --help costs, exit codes, stdout and stderr, colours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.make import write_job

HEAVY = ("torch", "transformers", "datasets", "deepspeed", "kopf", "kubernetes", "aiohttp", "obstore", "pandas")

PROBE = """
import sys
from finetune_cli.__main__ import main
sys.argv = ["finetune", *{arguments!r}]
try:
    main()
except SystemExit as end:
    code = end.code or 0
loaded = sorted(set({heavy!r}) & set(sys.modules))
print(f"code {{code}} loaded {{loaded}}", file=sys.stderr)
"""


def finetune(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetune_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["validate", "{job}"], ["render", "{job}"]])
def test_light_commands_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    job = str(write_job(tmp_path))
    probe = PROBE.format(arguments=[argument.format(job=job) for argument in arguments], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "code 0 loaded []"


def test_help_names_every_command() -> None:
    text = finetune("--help").stdout
    assert all(f" {command} " in text for command in ("validate", "plan", "render", "run"))


def test_an_error_is_two_lines_on_stderr_and_no_traceback(tmp_path: Path) -> None:
    done = finetune("plan", tmp_path / "absent.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "to do"]


def test_a_wrong_option_is_an_invalid_command() -> None:
    done = finetune("run", "job.yaml", "--processes", "0")
    assert done.returncode == 2
    assert "--processes" in done.stderr


def test_no_colour_where_none_is_wanted(tmp_path: Path) -> None:
    red = "31m"
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm"}
    assert red in finetune("plan", tmp_path / "absent.yaml", NO_COLOR="", **terminal).stderr
    assert red not in finetune("plan", tmp_path / "absent.yaml", NO_COLOR="1", **terminal).stderr
    assert "\x1b" not in finetune("plan", tmp_path / "absent.yaml").stderr
