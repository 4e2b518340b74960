"""Adapter folders as PEFT's save_pretrained writes them, and the logits of their base with them, alone and together."""

import shutil

import torch
from peft import PeftModel

from common import ROOT, forward, load_double, save_tensors
from make_lora import ATTENTION, MLP, attach
from make_models import batch_of

# name -> (base, PEFT configuration, dtype of the stored tensors)
ADAPTERS = {
    "all_linear": ("llama3", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}, torch.float32),
    "patterns": (
        "llama2",
        {
            "r": 4,
            "lora_alpha": 6,
            "target_modules": ATTENTION + MLP,
            "rank_pattern": {"k_proj": 2, r"layers\.1\..*gate_proj": 7},
            "alpha_pattern": {"o_proj": 3, r"layers\.0\.self_attn\.(q|k)_proj": 12},
            "use_rslora": True,
        },
        torch.float32,
    ),
    "qv_half": (
        "mistral",
        {"r": 3, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]},
        torch.float16,
    ),
    "second": ("llama3", {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}, torch.float32),
    "mlp_bf16": ("tinyllama", {"r": 8, "lora_alpha": 8, "target_modules": MLP}, torch.bfloat16),
}


def make() -> None:
    for name, (base, peft, dtype) in ADAPTERS.items():
        # The path lands in base_model_name_or_path: make_goldens.py runs in this folder to keep it relative.
        model = attach(load_double(f"models/{base}"), f"peft/{name}", peft)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
        folder = ROOT / "peft" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        # A reader must reproduce the file, so the logits come from the file.
        read = PeftModel.from_pretrained(load_double(f"models/{base}"), folder).double().eval()
        with torch.no_grad():
            logits = forward(read, batch_of(base))
        save_tensors(ROOT / "peft" / f"{name}.logits.safetensors", {"logits": logits.float()})
        print(f"  {name}")
    make_sum()


def make_sum() -> None:
    """Two adapters at once, each with a weight, as PEFT composes them exactly: by concatenating their factors."""
    read = PeftModel.from_pretrained(load_double("models/llama3"), ROOT / "peft/all_linear", adapter_name="one")
    read.load_adapter(ROOT / "peft/second", adapter_name="two")
    read.add_weighted_adapter(["one", "two"], [0.5, 2.0], "sum", combination_type="cat")
    read.set_adapter("sum")
    with torch.no_grad():
        logits = forward(read.double().eval(), batch_of("llama3"))
    save_tensors(ROOT / "peft" / "sum.logits.safetensors", {"logits": logits.float()})


if __name__ == "__main__":
    make()
