"""`python -m finetune_trainer.publish` on files, as the agent calls it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_contract.report import Report
from finetune_trainer.publish.__main__ import main
from finetune_trainer.publish.figures import format_number
from finetune_trainer.publish.manifest import PublishedManifest
from tests.publish.html import read_page
from tests.publish.make import URI, make_failed_evaluation, make_final, make_inputs, write_inputs


def test_a_run_leaves_card_manifest_and_reports_that_agree(tmp_path: Path) -> None:
    assert main(write_inputs(make_inputs(), tmp_path)) == 0
    report = Report.from_json((tmp_path / "report/report.json").read_bytes())
    page = read_page((tmp_path / "report/report.html").read_text())
    card = (tmp_path / "export/README.md").read_text()
    manifest = PublishedManifest.from_json((tmp_path / "export/finetune-manifest.json").read_bytes())
    accuracy = report.metrics["test"]["accuracy"]
    assert page.figures["test/accuracy"] == (accuracy, format_number(accuracy))
    assert f"| Accuracy | 0.6685 | **{format_number(accuracy)}** |" in card
    assert manifest.metrics == report.metrics
    assert (report.published is not None, report.model_revision) == (True, make_inputs().model_revision)


def test_the_manifest_lists_every_file_by_digest_and_is_itself_named_by_digest(tmp_path: Path) -> None:
    arguments = write_inputs(make_inputs(), tmp_path)
    export = tmp_path / "export"
    (export / "adapter").mkdir()
    (export / "adapter/adapter_model.safetensors").write_bytes(bytes(range(256)) * 10_000)
    assert main(arguments) == 0
    manifest = json.loads((export / "finetune-manifest.json").read_bytes())
    names = ["README.md", "adapter/adapter_model.safetensors", "config.json", "finetune-split.json"]
    assert manifest["files"] == {
        name: {
            "size": len((export / name).read_bytes()),
            "sha256": hashlib.sha256((export / name).read_bytes()).hexdigest(),
        }
        for name in names
    }
    report = Report.from_json((tmp_path / "report/report.json").read_bytes())
    digest = hashlib.sha256((export / "finetune-manifest.json").read_bytes()).hexdigest()
    assert (report.published.uri, report.published.digest) == (URI, f"sha256:{digest}")  # type: ignore[union-attr]


def test_the_manifest_says_what_the_model_was_made_from(tmp_path: Path) -> None:
    inputs = make_inputs()
    assert main(write_inputs(inputs, tmp_path)) == 0
    manifest = PublishedManifest.from_json((tmp_path / "export/finetune-manifest.json").read_bytes())
    assert (manifest.base_model.source, manifest.base_model.revision) == (
        "hf://sentence-transformers/all-MiniLM-L6-v2",
        inputs.model_revision,
    )
    assert (manifest.data.fingerprint, manifest.data.splits, manifest.best_step) == (
        inputs.prepared.summary.fingerprint,
        inputs.prepared.splits,
        160,
    )


def test_publishing_twice_gives_the_same_digest(tmp_path: Path) -> None:
    arguments = write_inputs(make_inputs(), tmp_path)
    digests = []
    for _ in range(2):
        assert main(arguments) == 0
        digests.append(json.loads((tmp_path / "report/report.json").read_text())["published"]["digest"])
    assert digests[0] == digests[1]


def test_a_missed_gate_is_told_and_nothing_is_called_published(tmp_path: Path) -> None:
    failed = make_inputs(final=make_final(evaluation=make_failed_evaluation()))
    assert main(write_inputs(failed, tmp_path)) == 0
    report = json.loads((tmp_path / "report/report.json").read_text())
    page = read_page((tmp_path / "report/report.html").read_text())
    assert (report["succeeded"], report["reason"], report.get("published"), page.succeeded) == (
        False,
        "GateFailed",
        None,
        "false",
    )


@pytest.mark.parametrize("name", ["evaluation.json", "data/prepared.json", "ledger.json", "run.json"])
def test_a_missing_or_foreign_document_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write_inputs(make_inputs(), tmp_path)
    (tmp_path / name).write_text('{"not": "it"}')
    assert main(arguments) == 1
    (tmp_path / name).unlink()
    assert main(arguments) == 1
    foreign, missing = (json.loads(line)["failure"]["message"] for line in capsys.readouterr().out.splitlines())
    assert foreign.startswith(f"{tmp_path / name} is not a ")
    assert missing.startswith(f"{tmp_path / name} cannot be read")


def test_the_command_starts_without_torch_and_transformers() -> None:
    code = (
        "import sys, finetune_trainer.publish.__main__\n"
        "print(sorted({'torch', 'transformers', 'deepspeed', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
