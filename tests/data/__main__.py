"""Make one of the data sets or models by hand: ``python -m tests.data spam OUT_DIR``."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.data import chat, models, spam

DATA: dict[str, Callable[[Path], dict[str, Path]]] = {"spam": spam.write_spam, "chat": chat.write_chat}
MODELS: dict[str, Callable[[], Path]] = {
    "minilm": models.minilm,
    "smollm": models.smollm,
    "smollm-cut": models.smollm_cut,
}


def main() -> None:
    """Write what is named into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*DATA, *MODELS])
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    arguments = parser.parse_args()
    if arguments.name in DATA:
        for path in DATA[arguments.name](arguments.folder).values():
            print(path)
    else:
        print(shutil.copytree(MODELS[arguments.name](), arguments.folder, dirs_exist_ok=True))


if __name__ == "__main__":
    main()
