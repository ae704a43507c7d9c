"""What the agent reads of its surroundings: settings, annotations, cgroup, GPU; and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_contract import names
from finetune_contract.attempt import StopRequest
from finetune_contract.progress import Outcome, Progress
from finetune_trainer.agent.annotations import Annotations, read_annotations
from finetune_trainer.agent.cgroup import count_cpus, count_oom_kills, count_usable_cpus
from finetune_trainer.agent.launcher import prepare_environment
from finetune_trainer.agent.orphans import reap_orphans
from finetune_trainer.agent.peak import find_peak_flops
from finetune_trainer.agent.settings import read_settings
from finetune_trainer.agent.termination import describe_end
from finetune_trainer.errors import DataError, UserError
from tests.agent.make import make_attempt, make_run
from tests.waiting import wait_for


def _write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_absent_and_empty_annotation_files_wish_nothing(tmp_path: Path) -> None:
    assert read_annotations(tmp_path, Annotations()) == Annotations()
    _write(tmp_path, attempt="", stop="", finish="\n")
    assert read_annotations(tmp_path, Annotations()) == Annotations()


def test_annotations_are_read_through_the_kubelets_symlinks(tmp_path: Path) -> None:
    attempt = make_attempt(3)
    stop = StopRequest(attempt=3, reason="Suspended")
    data = _write(tmp_path / "..2026", attempt=attempt.to_json(), stop=stop.to_json(), finish="")
    (tmp_path / "..data").symlink_to(data)
    for name in (names.FILE_ATTEMPT, names.FILE_STOP, names.FILE_FINISH):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert read_annotations(tmp_path, Annotations()) == Annotations(attempt, stop=stop, finish=False)


def test_what_cannot_be_read_leaves_the_last_wish_standing(tmp_path: Path) -> None:
    last = Annotations(make_attempt(3), StopRequest(attempt=3, reason="Suspended"))
    assert read_annotations(_write(tmp_path, attempt='{"number": 4', stop="{"), last) == last


def test_a_stop_may_be_taken_back_and_an_attempt_may_not(tmp_path: Path) -> None:
    last = Annotations(make_attempt(3), StopRequest(attempt=3, reason="Suspended"))
    assert read_annotations(_write(tmp_path, attempt="", stop=""), last) == Annotations(last.attempt)


def test_settings_have_the_defaults_of_a_pod(tmp_path: Path) -> None:
    run = make_run("file:///store")
    (tmp_path / "run.json").write_text(run.to_json())
    settings = read_settings({names.ENV_RUN_CONFIG: str(tmp_path / "run.json"), names.ENV_POD_IP: "10.0.0.7"})
    assert (settings.run, settings.node, settings.role, settings.port) == (run, 0, "trainer", names.AGENT_PORT)
    assert (str(settings.annotations), str(settings.work_dir)) == (names.ANNOTATIONS_DIR, names.WORK_DIR)
    assert settings.host == ""


def test_without_a_pod_the_agent_listens_on_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(make_run("file:///store").to_json())
    assert read_settings({names.ENV_RUN_CONFIG: str(tmp_path / "run.json")}).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (names.ENV_ROLE, "chief", "FINETUNE_ROLE is 'chief'"),
        (names.ENV_NODE_INDEX, "-1", "FINETUNE_NODE_INDEX is '-1'"),
        (names.ENV_RUN_CONFIG, "/nowhere/run.json", "/nowhere/run.json cannot be read"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, variable: str, value: str, message: str) -> None:
    (tmp_path / "run.json").write_text(make_run("file:///store").to_json())
    with pytest.raises(UserError, match=message):
        read_settings({names.ENV_RUN_CONFIG: str(tmp_path / "run.json")} | {variable: value})


def test_processes_killed_for_memory_are_counted_in_both_cgroup_versions(tmp_path: Path) -> None:
    new = _write(tmp_path / "v2", memory_dot_events="low 0\noom 3\noom_kill 2\n")
    old = _write(tmp_path / "v1", memory__memory_dot_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert (count_oom_kills(new), count_oom_kills(old), count_oom_kills(tmp_path)) == (2, 5, 0)


def test_a_cpu_quota_bounds_the_threads_in_both_cgroup_versions(tmp_path: Path) -> None:
    new = _write(tmp_path / "v2", cpu_dot_max="100000 100000\n")
    old = _write(tmp_path / "v1", cpu__cpu_dot_cfs_quota_us="50000\n", cpu__cpu_dot_cfs_period_us="100000\n")
    free = _write(tmp_path / "free", cpu_dot_max="max 100000\n")
    assert (count_cpus(new), count_cpus(old)) == (1, 1)
    assert count_cpus(free) == count_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_a_pod_plans_threads_for_the_cpus_that_it_asked_for(tmp_path: Path) -> None:
    quota = _write(tmp_path / "v2", cpu_dot_max="800000 100000\n")
    available = count_cpus(quota)
    assert count_usable_cpus("500m", quota) == 1
    assert count_usable_cpus("1000", quota) == count_usable_cpus(None, quota) == available


def test_workers_get_threads_by_their_number_and_what_the_user_set_stays(tmp_path: Path) -> None:
    environment = {"OMP_NUM_THREADS": "7"}
    prepare_environment(environment, make_run("file:///store", processes=64), tmp_path)
    assert environment["OMP_NUM_THREADS"] == "7"
    environment = {}
    prepare_environment(environment, make_run("file:///store", processes=64), tmp_path)
    assert environment["OMP_NUM_THREADS"] == "1"
    assert (environment["DS_ACCELERATOR"], environment["HF_HUB_OFFLINE"]) == ("cpu", "1")


def test_the_gpus_peak_is_known_by_the_drivers_name_or_not_at_all(tmp_path: Path) -> None:
    _write(tmp_path / "known" / "0000:01", information="Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    _write(tmp_path / "unknown" / "0000:01", information="Model: \t\t NVIDIA X9\n")
    assert find_peak_flops(tmp_path / "known") == 989e12
    assert find_peak_flops(tmp_path / "unknown") is None
    assert find_peak_flops(tmp_path / "absent") is None


def test_the_termination_message_says_the_end_in_4_kib() -> None:
    progress = Progress(job_uid="uid", node=0, role="trainer", attempt=2)
    failed = progress.model_copy(update={"phase": "Failed", "failure": DataError("ü" * 4000).to_failure()})
    assert len(describe_end(failed).encode()) <= 4096
    assert json.loads(describe_end(failed))["class"] == "User"
    outcome = Outcome(succeeded=False, reason="GateFailed", message="Not published.", attempt=2)
    assert json.loads(describe_end(progress.model_copy(update={"phase": "Finished", "outcome": outcome}))) == {
        "phase": "Finished",
        "attempt": 2,
        "step": 0,
        "succeeded": False,
        "reason": "GateFailed",
        "message": "Not published.",
    }


def test_only_children_that_nobody_awaits_are_reaped() -> None:
    children = [subprocess.Popen([sys.executable, "-S", "-c", "pass"]) for _ in range(2)]
    orphan, awaited = (child.pid for child in children)
    seen = wait_for(
        lambda: found if orphan in (found := reap_orphans(frozenset(), {awaited})) else None,
        "the child is a zombie",
        seconds=30,
    )
    assert awaited not in seen
    assert orphan not in reap_orphans(seen, {awaited})
    assert children[1].wait() == 0
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, os.WNOHANG)
    children[0].returncode = 0


def test_an_agent_that_cannot_read_its_run_says_so_in_the_termination_message(tmp_path: Path) -> None:
    places = {names.ENV_RUN_CONFIG: str(tmp_path / "run.json"), names.ENV_TERMINATION_LOG: str(tmp_path / "end")}
    command = [sys.executable, "-m", "finetune_trainer.agent"]
    ended = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert ended.returncode == 10
    end = json.loads((tmp_path / "end").read_text())
    assert (end["phase"], end["class"]) == ("Failed", "User")
    assert "run.json cannot be read" in end["message"]


def test_the_agent_imports_nothing_heavy() -> None:
    program = "import sys, finetune_trainer.agent.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "transformers", "datasets", "deepspeed", "numpy"} & set(loaded)
