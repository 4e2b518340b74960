"""Blocks of the GGML formats and the float32 values that the `gguf` package decodes them to."""

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from common import ROOT, generator, save_tensors

# Type -> byte offsets of the f16 fields in a block. All other bytes may hold anything.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "IQ4_NL": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_XS": [0],
}
BLOCKS = 12
# The largest half, the smallest normal and subnormal ones, zeros of both signs.
EXTREMES = [65504.0, -65504.0, 2.0**-14, 2.0**-24, -(2.0**-24), 0.0, -0.0]


def make_blocks(name: str) -> np.ndarray:
    """[BLOCKS, bytes of a block]: random codes; scales as models have them, then extreme ones, none of them NaN."""
    rng = generator(f"ggml/{name}")
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = torch.randint(0, 256, (BLOCKS, size), generator=rng, dtype=torch.uint8).numpy()
    for at in HALVES[name]:
        scales = torch.randn(BLOCKS, generator=rng).numpy().astype(np.float16) * np.float16(0.02)
        picks = torch.randint(0, len(EXTREMES), (BLOCKS - 5,), generator=rng).tolist()
        scales[5:] = [EXTREMES[pick] for pick in picks]
        blocks[:, at : at + 2] = scales.astype(np.float16).view(np.uint8).reshape(BLOCKS, 2)
    return blocks


def make() -> None:
    tensors = {}
    for name in HALVES:
        blocks = make_blocks(name)
        values = dequantize(blocks, GGMLQuantizationType[name])
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise SystemExit(f"{name}: expected finite float32 values")
        tensors[f"{name}.blocks"] = torch.from_numpy(blocks)
        tensors[f"{name}.values"] = torch.from_numpy(values)
    save_tensors(ROOT / "ggml" / "blocks.safetensors", tensors)
