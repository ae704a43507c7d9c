"""Chats about code: "write the function with this docstring", answered by Python's own standard library."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.data.rows import Row, write_split

SKIPPED = {"site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip"}
DOCSTRING_LENGTH = range(41, 600)
CODE_LINES = range(4, 40)


def write_chat(folder: Path) -> dict[str, Path]:
    """Write the rows {messages} as train and test files."""
    return write_split(folder, rows())


def rows() -> Iterator[Row]:
    """Yield one two-turn chat a function, each function's code once."""
    seen: set[str] = set()
    for function in functions(Path(sysconfig.get_path("stdlib"))):
        docstring = ast.get_docstring(function) or ""
        question = f"Write a Python function `{function.name}({ast.unparse(function.args)})`.\n{docstring}"
        function.body = function.body[1:] or [ast.Pass()]
        code = ast.unparse(function)
        if len(docstring) in DOCSTRING_LENGTH and code.count("\n") in CODE_LINES and code not in seen:
            seen.add(code)
            answer = f"```python\n{code}\n```"
            yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def functions(folder: Path) -> Iterator[ast.FunctionDef]:
    """Yield every documented function below ``folder``."""
    for file in sorted(folder.rglob("*.py")):
        if SKIPPED & set(file.relative_to(folder).parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(file.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for part in ast.walk(tree):
            if isinstance(part, ast.FunctionDef) and ast.get_docstring(part):
                yield part
