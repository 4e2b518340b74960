"""FP4 and int8: what bitsandbytes' CPU functions make of weights. Bytes of NF4 are in make_nf4.py."""

import bitsandbytes.functional as bnb
import torch

from common import ROOT, generator, save_tensors

# Rows of whole blocks, rows that blocks cross, and a last block that is not full. bitsandbytes decodes 4-bit rows wrongly
# where their length is a multiple of 16 and not of 64 (see make_nf4.py).
SHAPES = {"whole": (24, 128), "crossed": (10, 72), "odd": (5, 65)}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def make() -> None:
    tensors = {"fp4_map": bnb.get_4bit_type("fp4", device="cpu")}
    for name, shape in SHAPES.items():
        for suffix, dtype in DTYPES.items():
            key = f"{name}_{suffix}"
            weight = (torch.randn(shape, generator=generator(f"quantized/{key}")) * 0.05).to(dtype)
            weight[1] = 0
            packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="fp4")
            codes, absmax, _ = bnb.int8_vectorwise_quant(weight)
            tensors |= {
                f"{key}.input": weight,
                f"{key}.fp4": bnb.dequantize_4bit(packed, state).reshape(shape),
                f"{key}.int8.codes": codes,
                f"{key}.int8.absmax": absmax,
                f"{key}.int8": bnb.int8_vectorwise_dequant(codes, absmax),
            }
    save_tensors(ROOT / "quantized" / "quantized.safetensors", tensors)
