"""Folders of models as transformers and bitsandbytes save them in 4 and 8 bits, and the logits that their weights give.

The logits are float64 over the dequantized float32 weights (code * absmax, not rounded to the dtype of the model). Of int8
they are not those of transformers, whose LLM.int8 rounds what goes into a linear to 8 bits too.
"""

import json
import shutil

import torch
from bitsandbytes.functional import get_4bit_type, int8_vectorwise_dequant
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import nf4_reference
from common import ROOT, forward, load_double, save_tensors
from make_models import batch_of

MARK = ".quant_state.bitsandbytes__"
SCALES = "SCB"

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
FP4 = NF4 | {"bnb_4bit_quant_type": "fp4"}
INT8 = {"load_in_8bit": True}

# Name of the folder -> model, settings of the quantization, settings of save_pretrained.
CASES = {
    # Double quantization; no size is a multiple of 64.
    "odd_double": ("odd", NF4 | {"bnb_4bit_use_double_quant": True}, {}),
    # A tied head; shards that part a weight from its scales.
    "smollm2_single": ("smollm2", NF4 | {"bnb_4bit_use_double_quant": False}, {"max_shard_size": "60KB"}),
    # bf16 weights, a kind of linear that stays as it is, codes stored under another dtype.
    "tinyllama_mixed": (
        "tinyllama",
        NF4
        | {
            "bnb_4bit_use_double_quant": True,
            "llm_int8_skip_modules": ["lm_head", "down_proj"],
            "bnb_4bit_quant_storage": torch.bfloat16,
        },
        {},
    ),
    "odd_fp4_double": ("odd", FP4 | {"bnb_4bit_use_double_quant": True}, {}),
    "smollm2_fp4_single": ("smollm2", FP4 | {"bnb_4bit_use_double_quant": False}, {}),
    # Shards that part a weight from its scales; a kind of linear that stays as it is.
    "odd_int8": (
        "odd",
        INT8 | {"llm_int8_skip_modules": ["lm_head", "o_proj"]},
        {"max_shard_size": "60KB"},
    ),
    # bf16 weights, biases, a tied head, another threshold.
    "qwen2_int8": ("qwen2", INT8 | {"llm_int8_threshold": 4.0}, {}),
}


def save(name: str, model_name: str, settings: dict, saving: dict) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        ROOT / "models" / model_name,
        quantization_config=BitsAndBytesConfig(**settings),
        dtype="auto",
        device_map="cpu",
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


def dequantized_4bit(tensors: dict[str, torch.Tensor], mark: str) -> torch.Tensor:
    weight, quant_type = mark.split(MARK)
    state = json.loads(bytes(tensors[mark].tolist()))
    absmax = tensors[f"{weight}.absmax"]
    if "nested_offset" in state:
        offset = torch.tensor(state["nested_offset"], dtype=torch.float32)
        absmax = nf4_reference.reconstruct(absmax, tensors[f"{weight}.nested_absmax"], offset)
    packed = tensors[weight].reshape(-1).view(torch.uint8)
    table = get_4bit_type(quant_type, device="cpu")
    return nf4_reference.dequantize(packed, absmax, state["shape"], torch.float32, table)


def dequantized_weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The quantized weights by name."""
    weights = {}
    for key in tensors:
        if MARK in key:
            weights[key.split(MARK)[0]] = dequantized_4bit(tensors, key)
        elif key.endswith(f".{SCALES}"):
            weight = key.removesuffix(SCALES) + "weight"
            weights[weight] = int8_vectorwise_dequant(tensors[weight], tensors[key])
    return weights


def make() -> None:
    for name, (model_name, settings, saving) in CASES.items():
        save(name, model_name, settings, saving)
        tensors = read_tensors(name)
        model = load_double(ROOT / "models" / model_name)
        quantized = dequantized_weights(tensors)
        with torch.no_grad():
            for weight, values in quantized.items():
                model.get_parameter(weight).copy_(values.double())
            logits = forward(model, batch_of(model_name)).float()
        save_tensors(ROOT / "bnb" / f"{name}.logits.safetensors", {"logits": logits})
        (ROOT / "bnb" / f"{name}.logits.safetensors").chmod(0o644)
        print(f"  {name}: {len(quantized)} quantized of {len(tensors)} tensors")
