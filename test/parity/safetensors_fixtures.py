"""Writes safetensors files with the published Python writer, for byte-by-byte comparison with ours.

Run with the packages of requirements.txt: python test/parity/safetensors_fixtures.py
Each case in test/parity/safetensors/cases.json lists metadata (or null) and tensors in the order given to
the writer, data in hex; <name>.safetensors beside it is what safetensors.torch.save_file made of them.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent / "safetensors"

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}

# One tensor of every dtype, in an order that is not the writer's; names that sort differently as UTF-8 and
# as UTF-16, that need escapes in JSON, and that JavaScript objects treat specially.
EVERY_DTYPE = [(f"weights.{dtype.lower()}", dtype, [3, 2]) for dtype in sorted(DTYPES)]
NAMES = [
    ("b", "F32", [2]),
    ("a", "F32", [1, 1, 3]),
    ("B", "F32", [1]),
    ("a.b", "F16", [5]),
    ("scalar", "F32", []),
    ("empty", "F32", [0, 4]),
    ("\ufb01", "BF16", [3]),
    ("\U0001f600", "BF16", [1]),
    ('quote"back\\slash/\n\t\x01\x7f', "U8", [7]),
    ("__proto__", "I64", [1]),
    ("constructor", "I64", [1]),
    ("10", "U8", [1]),
    ("9", "U8", [1]),
]
ADAPTER = [
    (f"base_model.model.model.layers.{layer}.self_attn.{module}_proj.lora_{side}.weight", "F32", shape)
    for layer in (0, 10, 2)
    for module in ("v", "q")
    for side, shape in (("B", [6, 2]), ("A", [2, 4]))
]

CASES = [
    ("every_dtype", None, EVERY_DTYPE),
    ("names", {}, NAMES),
    ("adapter", {"format": "pt"}, ADAPTER),
    ("nothing", {"format": "pt"}, []),
]


def make(dtype: str, shape: list[int], seed: int) -> torch.Tensor:
    width = DTYPES[dtype].itemsize
    count = int(torch.tensor(shape, dtype=torch.int64).prod()) * width
    top = 2 if dtype == "BOOL" else 256
    data = bytes((37 * i + seed) % top for i in range(count))
    if count == 0:
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(DTYPES[dtype]).reshape(shape)


def raw(tensor: torch.Tensor) -> str:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes().hex() if tensor.numel() else ""


def main() -> None:
    OUT.mkdir(exist_ok=True)
    cases = []
    for name, metadata, entries in CASES:
        tensors = {key: make(dtype, shape, seed) for seed, (key, dtype, shape) in enumerate(entries)}
        save_file(tensors, OUT / f"{name}.safetensors", metadata=metadata)
        listed = [
            {"name": key, "dtype": dtype, "shape": shape, "data": raw(tensors[key])}
            for key, dtype, shape in entries
        ]
        cases.append({"name": name, "metadata": metadata, "tensors": listed})
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
