"""`spec.strategy`: how much of the model is trained, and by which method."""

from typing import Annotated, Final, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.text import LongText, ShortText

MethodName = Literal["full", "partial", "lora", "qlora", "prompt-tuning", "prefix-tuning", "p-tuning", "ia3"]

SUPPORTED_METHODS: Final = ("full", "lora")
"""Methods whose code has landed; the others are refused with reason NotYetSupported."""

Rank = Annotated[int, Field(ge=1, le=1024)]
Alpha = Annotated[float, Field(gt=0.0, le=4096.0)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Targets = Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=64)]
VirtualTokens = Annotated[int, Field(ge=1, le=4096)]


class LoraOptions(Document):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Rank = 16
    """Rank of the update matrices."""
    alpha: Alpha = 32.0
    """Scale of the update: alpha / rank."""
    dropout: Dropout = 0.05
    """Dropout on the adapters' input."""
    targets: Targets | None = None
    """Names of the linear layers that get an adapter; all linear layers but the head when absent."""


class QloraOptions(LoraOptions):
    """LoRA on a 4-bit model (Dettmers et al. 2023, arXiv 2305.14314)."""

    quantization: Literal["nf4", "fp4"] = "nf4"
    """4-bit data type of the frozen weights."""


class PartialOptions(Document):
    """Training of some layers, the others frozen."""

    last_layers: Annotated[int, Field(ge=0, le=1024)] = 1
    """Number of the last transformer layers that are trained; the head always is."""
    parameters: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=64)] | None = None
    """Patterns of parameter names that are trained instead of lastLayers."""


class PromptTuningOptions(Document):
    """Soft prompts (Lester et al. 2021, arXiv 2104.08691)."""

    virtual_tokens: VirtualTokens = 20
    """Number of trained tokens before the input."""
    text: LongText | None = None
    """Text whose embeddings the trained tokens start from; random when absent."""


class PrefixTuningOptions(Document):
    """Trained key and value prefixes in every layer (Li and Liang 2021, arXiv 2101.00190)."""

    virtual_tokens: VirtualTokens = 20
    """Number of trained tokens."""


class PTuningOptions(Document):
    """Soft prompts from a small encoder (Liu et al. 2021, arXiv 2103.10385)."""

    virtual_tokens: VirtualTokens = 20
    """Number of trained tokens."""
    encoder_hidden_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Width of the prompt encoder; the model's own when absent."""


class Ia3Options(Document):
    """Learned scales of activations (Liu et al. 2022, arXiv 2205.05638)."""

    targets: Targets | None = None
    """Names of the layers that are scaled; found by themselves when absent."""


def _options_rule(field: str, method: str) -> Rule:
    attribute = {"promptTuning": "prompt_tuning", "prefixTuning": "prefix_tuning", "pTuning": "p_tuning"}.get(
        field, field
    )
    return Rule(
        cel=f"!has(self.{field}) || (has(self.method) && self.method == '{method}')",
        message=f"strategy.{field} belongs to method {method}: set strategy.method to {method} or remove {field}",
        field=field,
        holds=lambda strategy: getattr(strategy, attribute) is None or strategy.method == method,
    )


class StrategySpec(Document):
    """How the model is trained. A method's options stand under the method's name."""

    method: MethodName = "full"
    """full trains every weight; lora and the like train a few and keep the rest."""
    partial: PartialOptions | None = None
    """Options of method partial."""
    lora: LoraOptions | None = None
    """Options of method lora."""
    qlora: QloraOptions | None = None
    """Options of method qlora."""
    prompt_tuning: PromptTuningOptions | None = None
    """Options of method prompt-tuning."""
    prefix_tuning: PrefixTuningOptions | None = None
    """Options of method prefix-tuning."""
    p_tuning: PTuningOptions | None = None
    """Options of method p-tuning."""
    ia3: Ia3Options | None = None
    """Options of method ia3."""

    rules = (
        _options_rule("partial", "partial"),
        _options_rule("lora", "lora"),
        _options_rule("qlora", "qlora"),
        _options_rule("promptTuning", "prompt-tuning"),
        _options_rule("prefixTuning", "prefix-tuning"),
        _options_rule("pTuning", "p-tuning"),
        _options_rule("ia3", "ia3"),
    )
