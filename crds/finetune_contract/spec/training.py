"""`spec.training`: the hyper-parameters, by the names that users of transformers' TrainingArguments know."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.text import FreeObject


class DeepSpeedSpec(Document):
    """DeepSpeed's part."""

    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    """ZeRO stage 0-3 (Rajbhandari et al. 2020, arXiv 1910.02054); derived from the model and the GPUs when absent."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What is kept in host memory instead of GPU memory."""
    config: FreeObject | None = None
    """Further keys of DeepSpeed's configuration, merged over ours; batch sizes, ZeRO stage and precision stay ours."""

    rules = (
        Rule(
            cel="!has(self.offload) || self.offload != 'parameters' || (has(self.zeroStage) && self.zeroStage == 3)",
            message="training.deepspeed.offload: parameters can be offloaded at ZeRO stage 3 only; set zeroStage: 3",
            holds=lambda deepspeed: deepspeed.offload != "parameters" or deepspeed.zero_stage == 3,
            field="offload",
        ),
    )


class TrainingSpec(Document):
    """Hyper-parameters. What is absent is derived, and shown by `finetune plan` and in status.resolved."""

    epochs: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Passes over the training rows; 3 when neither epochs nor maxSteps is set."""
    max_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Optimizer steps; ends the training before its epochs do."""
    batch_size: Annotated[int, Field(ge=1, le=1_048_576)] = 32
    """Rows in one optimizer step over all GPUs: the same on any number of them."""
    micro_batch_size: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    """Rows that one GPU computes at a time; derived when absent. Must divide batchSize."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    """Tokens in a row, longer ones are cut and counted; derived from the model when absent."""
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    """Peak learning rate; derived from the strategy when absent."""
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"] = (
        "linear"
    )
    """Shape of the learning rate over the steps (transformers' get_scheduler)."""
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of steps over which the learning rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's weight decay; not applied to biases and normalisation weights."""
    max_grad_norm: Annotated[float, Field(ge=0.0, le=1_000_000.0)] = 1.0
    """Gradients are clipped to this norm; 0 switches clipping off."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Label smoothing of the cross-entropy loss."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of the forward and backward pass; bf16 on GPUs and fp32 on CPUs when absent."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    """Seed of everything random: order of rows, dropout, new weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    packing: bool = False
    """Put several short rows into one sequence (text-generation)."""
    deepspeed: DeepSpeedSpec = DeepSpeedSpec()
    """DeepSpeed's part."""

    rules = (
        Rule(
            cel="!has(self.microBatchSize) || (has(self.batchSize) ? self.batchSize : 32) % self.microBatchSize == 0",
            message="training.microBatchSize must divide training.batchSize: choose a divisor or remove microBatchSize",
            field="microBatchSize",
            holds=lambda training: (
                training.micro_batch_size is None or training.batch_size % training.micro_batch_size == 0
            ),
        ),
    )
