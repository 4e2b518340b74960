"""Label smoothing and NEFTune of transformers through PEFT in float64: loss and gradient of every LoRA tensor.

The noise of NEFTune is drawn by transformers' own hook, whose uniform numbers are those of lowrank's counter: the bound is
the hook's, and both sides have the same noise.
"""

from unittest.mock import patch

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers.integrations.neftune import neftune_post_forward_hook
from transformers.trainer_pt_utils import LabelSmoother

from common import COUNTER, ROOT, adapter_tensors, forward, load_double, loss_count, loss_sum, mix, save_json, save_tensors

FOLDER = ROOT / "regularizers"
SMOOTHING, ALPHA = 0.15, 5.0
COUNTERS = {"seed": 7, "step": 3, "microStep": 1}


def draws(rows: int, cols: int) -> torch.Tensor:
    """Numbers in (-1, 1) of a batch [rows, cols], for the first node of the graph."""
    key = COUNTERS["seed"]
    for part in (COUNTERS["step"], COUNTERS["microStep"], 0):
        key = ((key ^ part) * COUNTER + (key >> 29)) % (1 << 64)
    base = mix(np.array([(key + COUNTER) % (1 << 64)], dtype=np.uint64))
    index = np.arange(rows * cols, dtype=np.uint64)
    bits = mix(base + (index >> np.uint64(1)) * np.uint64(COUNTER)) >> ((index & np.uint64(1)) * np.uint64(32))
    unit = ((bits & np.uint64(0xFFFFFFFF)) >> np.uint64(8)).astype(np.float32)
    return torch.from_numpy((unit + np.float32(0.5)) * np.float32(2.0**-23) - np.float32(1)).reshape(rows, cols)


def smoothed(model, batch):
    logits = forward(model, batch)
    return LabelSmoother(epsilon=SMOOTHING)({"logits": logits[None]}, batch["targets"].long()[None])


def noisy(model, batch):
    embedding = model.get_input_embeddings()
    embedding.neftune_noise_alpha = ALPHA
    all_draws = draws(len(batch["input_ids"]), embedding.weight.shape[1]).double()
    done = 0

    def uniform(tensor, low, high):
        nonlocal done
        assert low == -high
        own = all_draws[done : done + tensor.shape[1]]
        done += tensor.shape[1]
        return tensor.copy_(own[None] * high)

    hook = embedding.register_forward_hook(neftune_post_forward_hook)
    embedding.train()
    try:
        with patch.object(torch.Tensor, "uniform_", uniform):
            logits = forward(model, batch)
    finally:
        embedding.eval()
        hook.remove()
    assert done == len(batch["input_ids"])
    return loss_sum(logits, batch) / loss_count(batch)


def main():
    cases, tensors = {}, {}
    batch = load_file(ROOT / "golden" / "llama3.safetensors")
    for name, run in {"label_smoothing": smoothed, "neftune": noisy}.items():
        base = load_double(ROOT / "models" / "llama3")
        model = PeftModel.from_pretrained(base, ROOT / "peft" / "all_linear", is_trainable=True).double()
        loss = run(model, batch)
        loss.backward()
        cases[name] = loss.item()
        tensors |= adapter_tensors(model, name, grad=True)
    save_json(FOLDER / "losses.json", {"smoothing": SMOOTHING, "alpha": ALPHA, "counters": COUNTERS, "losses": cases})
    save_tensors(FOLDER / "gradients.safetensors", tensors)


if __name__ == "__main__":
    main()
