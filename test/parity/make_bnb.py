"""Folders of 4-bit models as transformers and bitsandbytes save them, and the logits that their weights give.

The logits are float64 over the dequantised float32 weights (code * absmax, not rounded to the dtype of the model).
"""

import json
import shutil

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import nf4_reference
from common import ROOT, forward, load_double, save_tensors
from make_models import batch_of

MARK = ".quant_state.bitsandbytes__nf4"

# Name of the folder -> model, settings of the quantisation, settings of save_pretrained.
CASES = {
    # Double quantisation; no size is a multiple of 64.
    "odd_double": ("odd", {"bnb_4bit_use_double_quant": True}, {}),
    # A tied head; shards that part a weight from its scales.
    "smollm2_single": ("smollm2", {"bnb_4bit_use_double_quant": False}, {"max_shard_size": "60KB"}),
    # bf16 weights, a kind of linear that stays as it is, codes stored under another dtype.
    "tinyllama_mixed": (
        "tinyllama",
        {
            "bnb_4bit_use_double_quant": True,
            "llm_int8_skip_modules": ["lm_head", "down_proj"],
            "bnb_4bit_quant_storage": torch.bfloat16,
        },
        {},
    ),
}


def save(name: str, model_name: str, settings: dict, saving: dict) -> None:
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32, **settings
    )
    model = AutoModelForCausalLM.from_pretrained(
        ROOT / "models" / model_name, quantization_config=config, dtype="auto", device_map="cpu"
    )
    shutil.rmtree(ROOT / "bnb" / name, ignore_errors=True)
    model.save_pretrained(ROOT / "bnb" / name, **saving)


def read_tensors(name: str) -> dict[str, torch.Tensor]:
    tensors = {}
    for path in sorted((ROOT / "bnb" / name).glob("*.safetensors")):
        path.chmod(0o644)
        with safe_open(path, "pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}
    return tensors


def dequantized(tensors: dict[str, torch.Tensor], weight: str) -> torch.Tensor:
    state = json.loads(bytes(tensors[weight + MARK].tolist()))
    absmax = tensors[f"{weight}.absmax"]
    if "nested_offset" in state:
        offset = torch.tensor(state["nested_offset"], dtype=torch.float32)
        absmax = nf4_reference.reconstruct(absmax, tensors[f"{weight}.nested_absmax"], offset)
    packed = tensors[weight].reshape(-1).view(torch.uint8)
    return nf4_reference.dequantize(packed, absmax, state["shape"], torch.float32)


def make() -> None:
    for name, (model_name, settings, saving) in CASES.items():
        save(name, model_name, settings, saving)
        tensors = read_tensors(name)
        model = load_double(ROOT / "models" / model_name)
        quantized = [key.removesuffix(MARK) for key in tensors if key.endswith(MARK)]
        with torch.no_grad():
            for weight in quantized:
                model.get_parameter(weight).copy_(dequantized(tensors, weight).double())
            logits = forward(model, batch_of(model_name)).float()
        save_tensors(ROOT / "bnb" / f"{name}.logits.safetensors", {"logits": logits})
        (ROOT / "bnb" / f"{name}.logits.safetensors").chmod(0o644)
        print(f"  {name}: {len(quantized)} quantised of {len(tensors)} tensors")
