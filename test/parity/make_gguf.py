"""Blocks of the `gguf` package's own encoders: numbers in, bytes out."""

import gguf
import numpy as np
import torch

from common import ROOT, generator, save_tensors


def values() -> torch.Tensor:
    """Rows of 64: ordinary weights, mixed scales, ties at half steps, zeros, one-sided, tiny, the largest that fit."""
    rng = generator("q8_0")
    normal = torch.randn(6, 64, generator=rng) * 0.02
    mixed = torch.randn(4, 64, generator=rng) * torch.logspace(-6, 3, 64)
    ties = (torch.arange(64, dtype=torch.float32) - 31.5).reshape(1, 64)
    ties = torch.cat([ties, torch.full((1, 64), 127.0)])
    ties[1, 1:] = torch.arange(63) - 31.5  # d is 1, so every number lies between two codes
    odd = torch.zeros(3, 64)
    odd[1] = torch.rand(64, generator=rng)
    odd[2, 3] = -5.5
    extreme = torch.stack([torch.randn(64, generator=rng) * 1e-7, torch.randn(64, generator=rng) * 1e6])
    return torch.cat([normal, mixed, ties, odd, extreme]).contiguous()


def make() -> None:
    x = values()
    q8_0 = gguf.quants.quantize(x.numpy(), gguf.GGMLQuantizationType.Q8_0)
    rng = generator("f16")
    halves = torch.cat(
        [
            torch.randn(512, generator=rng) * torch.logspace(-9, 4.7, 512),
            torch.tensor([65504.0, 65519.99, -65520.0, 6.1e-5, 2.0**-25, 2.0**-24 * 1.5, 1.00048828125, 1.00146484375]),
        ]
    )
    save_tensors(
        ROOT / "gguf" / "blocks.safetensors",
        {
            "q8_0.input": x,
            "q8_0.bytes": torch.from_numpy(np.ascontiguousarray(q8_0)),
            "f16.input": halves,
            "f16.output": halves.half(),
        },
    )
