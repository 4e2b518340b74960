"""NF4 with exact nearest codes at both levels, in plain torch float32.

bitsandbytes' CPU path equals it for the 4-bit codes; its 8-bit quantizer for the nested scales looks codes
up in a table of 65,536 bins and is off by one code now and then, so the exact form lives here. `make_nf4.py`
compares the two.
"""

from typing import NamedTuple

import torch
from bitsandbytes.functional import create_dynamic_map, get_4bit_type

BLOCK = 64
NESTED_BLOCK = 256
NF4_MAP = get_4bit_type("nf4", device="cpu")
DYNAMIC_MAP = create_dynamic_map(signed=True)


class Nested(NamedTuple):
    codes: torch.Tensor  # uint8 [blocks]
    nested_absmax: torch.Tensor  # float32 [ceil(blocks / 256)]
    offset: torch.Tensor  # float32 scalar
    absmax: torch.Tensor  # float32 [blocks], reconstructed


def midpoints(table: torch.Tensor) -> torch.Tensor:
    return (table[:-1] + table[1:]) / 2


def block_absmax(flat: torch.Tensor, block: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(flat.abs(), (0, -len(flat) % block))
    return padded.reshape(-1, block).amax(1)


def _nearest(flat: torch.Tensor, absmax: torch.Tensor, block: int, table: torch.Tensor) -> torch.Tensor:
    """A tie takes the lower code; a block of zeros takes the code of 0."""
    reciprocal = torch.where(absmax >= torch.finfo(torch.float32).tiny, 1 / absmax, 0)
    scaled = (flat * reciprocal.repeat_interleave(block)[: len(flat)]).clamp(-1, 1)
    return torch.bucketize(scaled, midpoints(table)).to(torch.uint8)


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed bytes [ceil(n / 2)] and absmax [ceil(n / 64)] of a tensor of any shape."""
    flat = weight.reshape(-1).float()
    absmax = block_absmax(flat, BLOCK)
    codes = _nearest(flat, absmax, BLOCK, NF4_MAP)
    zero = int(NF4_MAP.eq(0).nonzero())
    codes = torch.nn.functional.pad(codes, (0, len(codes) % 2), value=zero)
    return codes[::2] << 4 | codes[1::2], absmax


def dequantize(
    packed: torch.Tensor, absmax: torch.Tensor, shape, dtype: torch.dtype, table: torch.Tensor = NF4_MAP
) -> torch.Tensor:
    """float32 products, rounded once to `dtype`."""
    codes = torch.stack([packed >> 4, packed & 15], 1).reshape(-1)[: torch.Size(shape).numel()]
    values = table[codes.long()] * absmax.repeat_interleave(BLOCK)[: len(codes)]
    return values.reshape(shape).to(dtype)


def reconstruct(codes: torch.Tensor, nested_absmax: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    return DYNAMIC_MAP[codes.long()] * nested_absmax.repeat_interleave(NESTED_BLOCK)[: len(codes)] + offset


def double_quantize(absmax: torch.Tensor) -> Nested:
    offset = absmax.mean()
    centered = absmax - offset
    nested_absmax = block_absmax(centered, NESTED_BLOCK)
    codes = _nearest(centered, nested_absmax, NESTED_BLOCK, DYNAMIC_MAP)
    return Nested(codes, nested_absmax, offset, reconstruct(codes, nested_absmax, offset))
