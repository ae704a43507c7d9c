"""`python -m finetune_trainer.publish`: writes card, manifest, report.json and report.html of a finished run.

Runs in the pod of node 0 without credentials: it reads and writes local files only, and the agent uploads them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from finetune_contract.names import FILE_PUBLISHED_MANIFEST, FILE_REPORT_HTML, FILE_REPORT_JSON
from finetune_contract.progress import Published
from finetune_trainer.data.prepared import FILE_SPLIT
from finetune_trainer.errors import FineTuneError
from finetune_trainer.logs import speak_to_agent
from finetune_trainer.publish.card import write_card
from finetune_trainer.publish.inputs import Inputs, read_inputs
from finetune_trainer.publish.manifest import FILE_SPLIT_ROWS, build_manifest, digest_files
from finetune_trainer.publish.page import render_page
from finetune_trainer.publish.report import build_report
from finetune_trainer.store.digests import sha256_text

MODEL_CARD = "README.md"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 after a line {"failure": ...} on stdout."""
    options = parse_arguments(arguments)
    try:
        inputs = read_inputs(
            options.run,
            options.evaluation,
            options.data,
            options.ledger,
            options.attempt,
            model_revision=options.model_revision,
        )
        copy_split_rows(options.data, options.export)
        publish(inputs, options.export, options.published_uri, options.output)
    except FineTuneError as error:
        print(json.dumps({"failure": error.to_failure().to_data()}), flush=True)
        return 1
    return 0


def publish(inputs: Inputs, export: Path, published_uri: str, output: Path) -> None:
    """Complete the export folder, then write the reports; the manifest comes last in the folder that it describes."""
    draft = build_report(inputs, published=None)
    write_text(export / MODEL_CARD, write_card(draft, published_uri))
    manifest = build_manifest(draft, inputs.prepared.splits, digest_files(export)).to_json(indent=2)
    write_text(export / FILE_PUBLISHED_MANIFEST, manifest)
    report = build_report(inputs, Published(uri=published_uri, digest=sha256_text(manifest.encode())))
    write_text(output / FILE_REPORT_JSON, report.to_json(indent=2))
    write_text(output / FILE_REPORT_HTML, render_page(report))


def copy_split_rows(data: Path, export: Path) -> None:
    """Keep the row ids of split-off parts with the model; preparation writes none where every part was given."""
    if (data / FILE_SPLIT).exists():
        shutil.copyfile(data / FILE_SPLIT, export / FILE_SPLIT_ROWS)


def write_text(path: Path, text: str) -> None:
    """Write a file; raises FineTuneError that names it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise FineTuneError(f"{path} cannot be written ({error}); give the work folder more room") from error


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line of docs/architecture.md, step 8."""
    parser = argparse.ArgumentParser(prog="python -m finetune_trainer.publish", description=__doc__)
    for name in ("run", "evaluation", "data", "export", "ledger", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--published-uri", required=True)
    parser.add_argument("--model-revision", default="", help="commit of a Hub model, from the job's prepared.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    speak_to_agent(sys.stderr)
    sys.exit(main())
