"""Writes a model folder with random bf16 weights in the shape of a published model: speed and memory do not ask what
the numbers are.

    python benchmarks/peers/random_model.py qwen2.5-0.5b FOLDER

The folder has config.json and model.safetensors, no tokenizer: the benchmarks feed token ids. Weights are drawn as
transformers initialises them (normal, deviation 0.02; norms are ones, biases zeros).
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

# hidden, intermediate, layers, heads, key/value heads, vocabulary; both tie embedding and head (the models' config.json).
_SHAPES = {
    "qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151936),
    "qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151936),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=sorted(_SHAPES))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    hidden, intermediate, layers, heads, kv_heads, vocabulary = _SHAPES[options.shape]
    generator = torch.Generator().manual_seed(0)
    kv = hidden // heads * kv_heads

    def normal(rows: int, columns: int) -> torch.Tensor:
        return torch.empty(rows, columns, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)

    tensors = {
        "model.embed_tokens.weight": normal(vocabulary, hidden),
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
    }
    for layer in range(layers):
        name = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        for projection, rows in (("q", hidden), ("k", kv), ("v", kv)):
            tensors[f"{name}self_attn.{projection}_proj.weight"] = normal(rows, hidden)
            tensors[f"{name}self_attn.{projection}_proj.bias"] = torch.zeros(rows, dtype=torch.bfloat16)
        tensors[f"{name}self_attn.o_proj.weight"] = normal(hidden, hidden)
        for projection in ("gate", "up"):
            tensors[f"{name}mlp.{projection}_proj.weight"] = normal(intermediate, hidden)
        tensors[f"{name}mlp.down_proj.weight"] = normal(hidden, intermediate)
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, options.folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": vocabulary,
    }
    (options.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
