from __future__ import annotations

import json
from pathlib import Path

from tests.cli.make import call, write_job

BAD = """\
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: spam}
spec:
  task: text-classificaton
  model: {source: "s3://ml/model"}
  data:
    train: {source: "s3://ml/x"}
  training:
    batchsize: 64
    epochs: 0
    learningRate: "2e-5"
  evaluation:
    gate:
      - {metric: f1}
  output: {destination: "s3://ml/out"}
"""


def test_every_problem_has_file_line_column_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = call("validate", file)
    lines = result.stdout.splitlines()
    assert result.exit_code == 2
    assert [line.partition(": ")[0] for line in lines] == [
        f"{file}:5:9",
        f"{file}:10:5",
        f"{file}:11:13",
        f"{file}:12:19",
        f"{file}:15:9",
    ]
    assert "did you mean text-classification" in lines[0]
    assert "did you mean batchSize" in lines[1]
    assert "greater than 0" in lines[2]
    assert "without quotes" in lines[3]
    assert "set min or max" in lines[4]
    assert "5 problems in 1 file" in result.stderr


def test_json_has_the_same_problems_as_data(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    good = write_job(tmp_path)
    result = call("validate", good, file, "--output", "json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["valid"]) == (2, False)
    assert report["jobs"] == [{"file": str(good), "name": "job"}]
    assert [(each["line"], each["column"], each["field"]) for each in report["problems"]][1:3] == [
        (10, 5, "spec.training.batchsize"),
        (11, 13, "spec.training.epochs"),
    ]


def test_valid_files_end_with_0_and_leave_stdout_empty(tmp_path: Path) -> None:
    result = call("validate", write_job(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 job valid" in result.stderr


def test_documents_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    file = write_job(tmp_path)
    file.write_text(file.read_text() + "---\napiVersion: v1\nkind: Secret\nstringData: {a: b}\n")
    result = call("validate", file)
    assert result.exit_code == 0
    assert "Secret is not ours" in result.stderr


def test_a_slip_in_the_kind_is_a_problem_and_not_another_kind(tmp_path: Path) -> None:
    file = write_job(tmp_path)
    file.write_text(file.read_text().replace("FineTuneJob", "FinetuneJob"))
    result = call("validate", file)
    assert result.exit_code == 2
    assert f"{file}:2:7: kind" in result.stdout
    assert "did you mean FineTuneJob" in result.stdout


def test_a_file_without_a_job_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    result = call("validate", file)
    assert result.exit_code == 2
    assert f"{file}:1:1: there is no FineTuneJob" in result.stdout


def test_what_this_version_cannot_do_is_named_at_its_field(tmp_path: Path) -> None:
    file = write_job(tmp_path, {"strategy": {"method": "ia3"}})
    result = call("validate", file)
    assert result.exit_code == 2
    line = 1 + next(i for i, text in enumerate(file.read_text().splitlines()) if "method:" in text)
    assert f"{file}:{line}:13: spec.strategy.method is not supported yet" in result.stdout


def test_broken_yaml_is_a_problem_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("spec: {a: 1\n")
    result = call("validate", file)
    assert result.exit_code == 2
    assert f"{file}:2:1: no YAML" in result.stdout


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    result = call("validate", tmp_path / "absent.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error:" in result.stderr
    assert "to do:" in result.stderr
