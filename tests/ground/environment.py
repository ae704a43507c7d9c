"""The project's virtual environment, from nothing but Python 3.11: every package pinned and checked by hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ground.cache import REPOSITORY

UV = "uv==0.13.9"
FOLDER = REPOSITORY / ".venv"


def make_environment() -> None:
    """Make or update ``.venv``; uv's cache makes the second one on a machine quick."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the one file that an older Python may be asked to run
        sys.exit(f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}")
    if not (FOLDER / "bin" / "python").exists():
        _make_folder()
    python = str(FOLDER / "bin" / "python")
    uv = [shutil.which("uv") or str(_bring_uv()), "pip"]
    quiet = {**os.environ, "UV_NO_PROGRESS": "1"}
    requirements = str(REPOSITORY / "requirements" / "dev.txt")
    for arguments in (["--require-hashes", "-r", requirements], ["--no-deps", "--editable", str(REPOSITORY)]):
        subprocess.run([*uv, "install", "--python", python, *arguments], check=True, env=quiet)


def _make_folder() -> None:
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=False)
    if done.returncode != 0:
        sys.exit("Python's venv module is incomplete here (on Debian: apt-get install python3-venv)")


def _bring_uv() -> Path:
    """Install uv into the environment itself, for a machine that has none."""
    python = str(FOLDER / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV], check=True)
    return FOLDER / "bin" / "uv"


if __name__ == "__main__":
    make_environment()
