"""Adapters as mlx-lm saves them, LoRA and DoRA, and the logits of their base with them in mlx-lm, in float32.

They are read back before the forward pass, so the logits are those of the files.
"""

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model, save_config
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent
# In the form of mlx_lm.lora: the options of a run, of which an adapter needs these.
RUNS = {
    "lora": {
        "fine_tune_type": "lora",
        "num_layers": 1,
        "lora_parameters": {"rank": 3, "dropout": 0.0, "scale": 20.0},
    },
    "dora": {
        "fine_tune_type": "dora",
        "num_layers": 2,
        "lora_parameters": {"rank": 4, "dropout": 0.05, "scale": 2.5, "keys": ["self_attn.q_proj", "mlp.down_proj"]},
    },
}


def base():
    model, _ = load_model(ROOT / "models" / "llama3v4")
    return model


def randomized(model, seed):
    """Values that training could give: B is zero at the start."""
    mx.random.seed(seed)
    change = lambda _, value: value + 0.1 * mx.random.normal(value.shape)
    model.update(tree_map_with_path(change, model.trainable_parameters()))


def logits(model):
    batch = load_file(ROOT / "golden" / "llama3.safetensors")
    ids, bounds = batch["input_ids"], batch["cu_seqlens"].tolist()
    rows = [model(mx.array(ids[begin:end])[None])[0] for begin, end in zip(bounds, bounds[1:])]
    return np.concatenate([np.array(row) for row in rows])


def main():
    mx.set_default_device(mx.cpu)
    # mlx-lm reads the keys of transformers 4.
    folder = ROOT / "models" / "llama3v4"
    shutil.copytree(ROOT / "models" / "llama3", folder, dirs_exist_ok=True)
    shutil.copy(ROOT / "models" / "llama3-config-v4.json", folder / "config.json")
    try:
        for seed, (name, run) in enumerate(RUNS.items()):
            out = ROOT / "mlx" / name
            out.mkdir(parents=True, exist_ok=True)
            model = base()
            model.freeze()
            linear_to_lora_layers(model, run["num_layers"], run["lora_parameters"], use_dora=name == "dora")
            randomized(model, seed)
            mx.save_safetensors(str(out / "adapters.safetensors"), dict(tree_flatten(model.trainable_parameters())))
            save_config({"model": "../models/llama3", **run}, out / "adapter_config.json")
            read = load_adapters(base(), str(out))
            read.eval()
            save_file({"logits": logits(read)}, ROOT / "mlx" / f"{name}.logits.safetensors")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
