"""Formulas with golden numbers: rotary frequencies, AdamW, learning-rate schedules."""

import torch
from transformers import LlamaConfig, get_scheduler
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from common import ROOT, generator, save_json

_yarn = {"rope_type": "yarn", "factor": 4.0}
_llama3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}

# name -> head_dim, rope_parameters, max_position_embeddings
ROPES = {
    "llama2": (128, {"rope_type": "default", "rope_theta": 1e4}, 4096),
    "smollm2": (64, {"rope_type": "default", "rope_theta": 1e5}, 8192),
    "llama3.1": (
        128,
        {**_llama3, "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192},
        131072,
    ),
    "llama3.2": (
        64,
        {**_llama3, "rope_theta": 5e5, "factor": 32.0, "original_max_position_embeddings": 8192},
        131072,
    ),
    "linear": (64, {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}, 4096),
    "yarn": (128, {**_yarn, "rope_theta": 1e6, "original_max_position_embeddings": 32768}, 131072),
    "yarn_by_context": (64, {**_yarn, "rope_theta": 1e4}, 4096),
    "yarn_with_all_settings": (
        64,
        {
            **_yarn,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 4096,
            "beta_fast": 16,
            "beta_slow": 2,
            "truncate": False,
            "attention_factor": 1.5,
        },
        16384,
    ),
    "yarn_with_mscale": (
        64,
        {**_yarn, "rope_theta": 1e4, "original_max_position_embeddings": 4096, "mscale": 0.7, "mscale_all_dim": 0.5},
        16384,
    ),
    # Both ends of the ramp lie at the first pair.
    "yarn_of_a_short_context": (16, {**_yarn, "rope_theta": 1e4, "original_max_position_embeddings": 6}, 24),
}

ADAMW = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
ADAMW_STEPS = 50


def ropes() -> list[dict]:
    result = []
    for name, (head_dim, parameters, positions) in ROPES.items():
        config = LlamaConfig(
            hidden_size=4 * head_dim,
            num_attention_heads=4,
            head_dim=head_dim,
            max_position_embeddings=positions,
            rope_parameters=dict(parameters),  # which transformers completes
        )
        rope = LlamaRotaryEmbedding(config)
        result.append(
            {
                "name": name,
                "head_dim": head_dim,
                "max_position_embeddings": positions,
                "parameters": parameters,
                "inv_freq": rope.inv_freq.tolist(),
                "attention_factor": float(rope.attention_scaling),
            }
        )
    return result


def adamw() -> dict:
    rng = generator("adamw")
    param = torch.nn.Parameter(torch.randn(8, generator=rng, dtype=torch.float64).float().double())
    start = param.tolist()
    optimizer = torch.optim.AdamW([param], **ADAMW)
    grads, params = [], []
    for step in range(ADAMW_STEPS):
        # Element i has gradients of size 10^-i, the last one none at all in half of the steps.
        scale = 10.0 ** -torch.arange(8, dtype=torch.float64)
        scale[7] *= step % 2
        grad = (torch.randn(8, generator=rng, dtype=torch.float64) * scale).float().double()
        param.grad = grad
        optimizer.step()
        grads.append(grad.tolist())
        params.append(param.tolist())
    return {**ADAMW, "param": start, "grads": grads, "params": params}


def schedules() -> list[dict]:
    result = []
    for name in ("constant", "constant_with_warmup", "linear", "cosine"):
        for warmup, total in ((0, 12), (3, 20), (5, 5), (1, 1)):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
            factors = []
            for _ in range(total):
                factors.append(scheduler.get_last_lr()[0])
                optimizer.step()
                scheduler.step()
            result.append({"name": name, "warmup_steps": warmup, "total_steps": total, "factors": factors})
    return result


def make() -> None:
    save_json(ROOT / "numbers" / "rope.json", ropes())
    save_json(ROOT / "numbers" / "adamw.json", adamw())
    save_json(ROOT / "numbers" / "schedules.json", schedules())


if __name__ == "__main__":
    make()
