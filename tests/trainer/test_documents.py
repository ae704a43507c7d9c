"""Small pure decisions of the worker: curves, which checkpoint, what an exception means."""

from __future__ import annotations

import pytest
import torch

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.report import CurvePoint
from finetune_trainer.errors import DataError
from finetune_trainer.marks import Stage
from finetune_trainer.worker.engine import make_deepspeed_config
from finetune_trainer.worker.failure import Scene, map_error
from finetune_trainer.worker.flops import count_flops_per_token
from finetune_trainer.worker.resume import choose_common, find_mismatch, find_unwanted
from finetune_trainer.worker.state import MOST_POINTS, TrainerState, add_points
from tests.trainer.make import make_run


def test_points_are_added_to_curves_by_name() -> None:
    curves = add_points({"a": (CurvePoint(step=1, value=0.5),)}, 2, {"a": 0.4, "b": 1.0})
    assert curves == {
        "a": (CurvePoint(step=1, value=0.5), CurvePoint(step=2, value=0.4)),
        "b": (CurvePoint(step=2, value=1.0),),
    }


def test_a_long_curve_is_thinned_and_keeps_its_first_and_last_point() -> None:
    points = tuple(CurvePoint(step=step, value=0.0) for step in range(MOST_POINTS))
    thinned = add_points({"a": points}, MOST_POINTS, {"a": 1.0})["a"]
    assert (len(thinned), thinned[0].step, thinned[-1].step) == (MOST_POINTS // 2 + 1, 0, MOST_POINTS)


def test_the_newest_checkpoint_that_all_ranks_hold_comes_first() -> None:
    assert choose_common([["step-3", "step-2", "step-1"], ["step-2", "step-1"]]) == ["step-2", "step-1"]
    assert choose_common([["step-3"], []]) == []


def test_a_checkpoint_of_other_data_or_stage_is_passed_over_with_a_reason() -> None:
    fresh = TrainerState(zero_stage=2, data_fingerprint="a")
    assert find_mismatch(fresh, fresh) == ""
    assert "ZeRO stage 1" in find_mismatch(fresh.model_copy(update={"zero_stage": 1}), fresh)
    assert "other data" in find_mismatch(fresh.model_copy(update={"data_fingerprint": "b"}), fresh)


@pytest.mark.parametrize(
    ("step", "skipped", "reason"),
    [(3, (), ""), (4, (), "it was trained on step 4, which is passed over now"), (5, (4,), "")],
)
def test_a_checkpoint_that_learnt_from_a_step_to_pass_over_is_unwanted(
    step: int, skipped: tuple[int, ...], reason: str
) -> None:
    assert find_unwanted(TrainerState(step=step, skipped_steps=skipped), [4]) == reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("bad"), WorkerExit.USER_ERROR),
        (MemoryError(), WorkerExit.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), WorkerExit.OUT_OF_MEMORY),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            WorkerExit.OUT_OF_MEMORY,
        ),
        (
            RuntimeError("NCCL error: unhandled cuda error; Last error: Cuda failure 2 'out of memory'"),
            WorkerExit.OUT_OF_MEMORY,
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), WorkerExit.OUT_OF_MEMORY),
        (RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1234"), WorkerExit.PEER_LOST),
        (ConnectionResetError("reset"), WorkerExit.PEER_LOST),
        (RuntimeError("shapes do not match"), 1),
        (KeyError("gloo"), 1),
    ],
)
def test_an_exception_has_one_exit_code(error: Exception, code: int) -> None:
    assert map_error(error, make_scene()).exit_code == code


def make_scene(stage: Stage = "forward", micro_batch_size: int = 8, evaluation_batch_size: int = 16) -> Scene:
    run = make_run(micro_batch_size=micro_batch_size, evaluation_batch_size=evaluation_batch_size)
    return Scene(stage, 7, run.resolved)


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (make_scene(), "for micro-batches of 8 rows: the next attempt computes 4 rows at a time"),
        (make_scene("backward", 2), "for micro-batches of 2 rows: the next attempt computes 1 row at a time"),
        (make_scene("update", 1), "for 1 row at a time: lower training.maxLength"),
        (make_scene("evaluating"), "to evaluate 16 rows at a time: the next attempt evaluates 8; evaluation.batchSize"),
        (make_scene("finalizing", 8, 4), "to evaluate 4 rows at a time: lower evaluation.batchSize"),
        (make_scene("starting"), "while starting: raise resources.memory"),
    ],
)
def test_memory_that_did_not_suffice_names_what_for_and_what_comes_next(scene: Scene, words: str) -> None:
    assert str(map_error(MemoryError("8 bytes"), scene)).startswith(f"memory did not suffice {words}")


def test_a_loss_scale_that_is_used_up_is_numeric_trouble_of_its_step() -> None:
    error = map_error(Exception("Current loss scale already at minimum - cannot decrease scale anymore"), make_scene())
    failure = error.to_failure(node=0, rank=0)
    assert (failure.failure_class, failure.step) == (FailureClass.NUMERIC, 7)


def test_users_keys_go_under_ours_in_deepspeeds_configuration() -> None:
    users = {"zero_optimization": {"stage": 0, "reduce_bucket_size": 1000}, "train_batch_size": 7, "wandb": {}}
    spec = {"training": {"maxGradNorm": 0.5, "deepspeed": {"config": users, "offload": "optimizer"}}}
    config = make_deepspeed_config(make_run(spec=spec, zero_stage=2, precision="bf16"))
    assert config["zero_optimization"] == {
        "stage": 2,
        "reduce_bucket_size": 1000,
        "offload_optimizer": {"device": "cpu", "pin_memory": False},
    }
    assert (config["bf16"], config["fp16"], config["gradient_clipping"]) == ({"enabled": True}, {"enabled": False}, 0.5)
    assert "train_batch_size" not in config


def test_operations_a_token_follow_the_stated_formula() -> None:
    assert count_flops_per_token(1000, 2, 8, 10.0, True) == 6 * 1000 + 12 * 2 * 8 * 10
    assert count_flops_per_token(1000, 2, 8, 10.0, False) == 4 * 1000 + 8 * 2 * 8 * 10
