"""Steps of optimizers: transformers' and torch's Adafactor, torch's AdamW and SGD, bitsandbytes' Lion and 8-bit AdamW and Lion.

Values and gradients are formulas that any language computes to the same bits, so only results are stored.
"""

import bitsandbytes
import numpy as np
import torch
from transformers.optimization import Adafactor

from common import ROOT, save_json, save_tensors

# bitsandbytes keeps 8-bit state of what has 4096 elements and more.
SHAPES = {"large": (16, 300), "small": (40, 3), "vector": (1, 50)}
STEPS = 4


def spread(count: int, salt: int) -> np.ndarray:
    """Numbers in [-1, 1], the small ones more often."""
    x = ((np.arange(count) * 7919 + salt * 104729) % 2001 - 1000) / 1000
    return (x * x * x).astype(np.float32)


def initial(index: int, shape: tuple[int, int]) -> np.ndarray:
    return spread(shape[0] * shape[1], 100 + index).reshape(shape)


def gradient(index: int, shape: tuple[int, int], step: int) -> np.ndarray:
    rows = np.arange(1, shape[0] + 1, dtype=np.float32)[:, None]
    return (spread(shape[0] * shape[1], 10 * step + index).reshape(shape) / rows).astype(np.float32)


# name -> optimizer over a list of parameters, dtype, and what is the same here
CASES = {
    "adafactor": (
        lambda p: Adafactor(p, lr=1e-2, relative_step=False, scale_parameter=False, weight_decay=0.1),
        torch.float64,
        {"type": "adafactor", "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "adafactor_scaled": (
        lambda p: Adafactor(p, lr=3e-2, relative_step=False, clip_threshold=0.5, decay_rate=-0.6),
        torch.float64,
        {
            "type": "adafactor",
            "scale_parameter": True,
            "clip_threshold": 0.5,
            "decay_rate": -0.6,
            "learning_rate": 3e-2,
            "weight_decay": 0,
        },
    ),
    "adafactor_torch": (
        lambda p: torch.optim.Adafactor(p, lr=1e-2),
        torch.float64,
        {"type": "adafactor", "scale_parameter": True, "learning_rate": 1e-2, "weight_decay": 0},
    ),
    # Both numbers of eps count: the first beside squares of most gradients, the second above the size of the parameters.
    "adafactor_eps": (
        lambda p: Adafactor(p, lr=1e-2, eps=(1e-2, 0.5), relative_step=False),
        torch.float64,
        {
            "type": "adafactor",
            "scale_parameter": True,
            "eps": [1e-2, 0.5],
            "learning_rate": 1e-2,
            "weight_decay": 0,
        },
    ),
    "lion_betas": (
        lambda p: bitsandbytes.optim.Lion(p, lr=1e-3, betas=(0.5, 0.8), weight_decay=0.1),
        torch.float32,
        {"type": "lion", "betas": [0.5, 0.8], "learning_rate": 1e-3, "weight_decay": 0.1},
    ),
    "lion": (
        lambda p: bitsandbytes.optim.Lion(p, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
        torch.float32,
        {"type": "lion", "learning_rate": 1e-3, "weight_decay": 0.1},
    ),
    "lion_8bit": (
        lambda p: bitsandbytes.optim.Lion8bit(p, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
        torch.float32,
        {"type": "lion_8bit", "learning_rate": 1e-3, "weight_decay": 0.1},
    ),
    "adamw": (
        lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1),
        torch.float64,
        {"type": "adamw", "betas": [0.9, 0.95], "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "adamw_eps": (
        lambda p: torch.optim.AdamW(p, lr=1e-2, eps=1e-2, weight_decay=0.1),
        torch.float64,
        {"type": "adamw", "eps": 1e-2, "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "sgd": (
        lambda p: torch.optim.SGD(p, lr=1e-2, weight_decay=0.1),
        torch.float64,
        {"type": "sgd", "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "sgd_momentum": (
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.8, weight_decay=0.1),
        torch.float64,
        {"type": "sgd", "momentum": 0.8, "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "adamw_eps_8bit": (
        lambda p: bitsandbytes.optim.AdamW8bit(p, lr=1e-2, eps=1e-2, weight_decay=0.1),
        torch.float32,
        {"type": "adamw_8bit", "eps": 1e-2, "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
    "lion_betas_8bit": (
        lambda p: bitsandbytes.optim.Lion8bit(p, lr=1e-3, betas=(0.5, 0.8), weight_decay=0.1),
        torch.float32,
        {"type": "lion_8bit", "betas": [0.5, 0.8], "learning_rate": 1e-3, "weight_decay": 0.1},
    ),
    "adamw_8bit": (
        lambda p: bitsandbytes.optim.AdamW8bit(p, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1),
        torch.float32,
        {"type": "adamw_8bit", "betas": [0.9, 0.95], "learning_rate": 1e-2, "weight_decay": 0.1},
    ),
}


def make() -> None:
    tensors = {}
    for name, (make_optimizer, dtype, _) in CASES.items():
        parameters = [
            torch.nn.Parameter(torch.from_numpy(initial(i, shape)).to(dtype))
            for i, shape in enumerate(SHAPES.values())
        ]
        # A vector is one of those too: bitsandbytes' and transformers' see one dimension.
        parameters[2] = torch.nn.Parameter(parameters[2].detach()[0].clone())
        optimizer = make_optimizer(parameters)
        for step in range(1, STEPS + 1):
            for i, (parameter, shape) in enumerate(zip(parameters, SHAPES.values(), strict=True)):
                parameter.grad = torch.from_numpy(gradient(i, shape, step)).to(dtype).reshape(parameter.shape)
            optimizer.step()
        for key, parameter in zip(SHAPES, parameters, strict=True):
            tensors[f"{name}.{key}"] = parameter.detach().float().reshape(SHAPES[key])
    folder = ROOT / "optimizers"
    save_tensors(folder / "results.safetensors", tensors)
    cases = [{"name": name, "optimizer": settings} for name, (_, _, settings) in CASES.items()]
    save_json(folder / "cases.json", {"shapes": SHAPES, "steps": STEPS, "cases": cases})
