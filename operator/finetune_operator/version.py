"""Which version of finetune-operator this is; read once from the installed distribution."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("finetune-operator")
