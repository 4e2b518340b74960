"""NF4 bytes: our reference beside bitsandbytes' CPU functions, which must agree except where the index says so."""

import bitsandbytes
import bitsandbytes.functional as bnb
import torch

import nf4_reference as reference
from common import ROOT, generator, save_json, save_tensors

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

NOTES = [
    "quantize_4bit on CPU is bitsandbytes' generic torch code: bucketing by float32 midpoints, a tie takes the "
    "lower code, full blocks multiply by 1/absmax and the last partial block divides by absmax.",
    "A zero block has absmax 0, but a zero partial block 1e-38; both have codes 7.",
    "The division in the last partial block flipped no code in 1.26 million random float32 elements of such blocks.",
    "dequantize_4bit on CPU is native for an even last dimension and generic torch code for an odd one. The native "
    "code takes the wrong absmax where the last dimension is a multiple of 16 and not of 64 (16, 32, 48, 80, 96 ...); "
    "for every other even length up to 328 it equals the generic code.",
    "dequantize_4bit returns [1, n] for a vector of even length.",
    "The nested 8-bit quantizer on CPU is native and looks codes up in a table of bins: codes may be one away from "
    "the nearest, and where all absmax are equal it stores code 0 with nested_absmax 0 instead of 127.",
]


def thresholds() -> torch.Tensor:
    """Every threshold, its float32 neighbors and the codes themselves, in one block whose absmax is 1."""
    middle = reference.midpoints(reference.NF4_MAP)
    up = torch.nextafter(middle, torch.tensor(2.0))
    down = torch.nextafter(middle, torch.tensor(-2.0))
    values = torch.cat([middle, up, down, reference.NF4_MAP])
    return torch.nn.functional.pad(values, (0, 64 - len(values)))


def inputs() -> dict[str, torch.Tensor]:
    def normal(name: str, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator(f"nf4/{name}")) * 0.05

    cases = {f"vector_{n}": normal(f"vector_{n}", n) for n in (1, 63, 64, 65, 70, 4097)}
    cases |= {"rows_64": normal("rows_64", 12, 128), "rows_72": normal("rows_72", 10, 72), "rows_96": normal("rows_96", 8, 96)}
    cases["rows_odd"] = normal("rows_odd", 5, 65)
    # Outliers make absmax uneven, so that nested codes use the whole map.
    cases["outliers"] = normal("outliers", 300) * (1 + 30 * (normal("spikes", 300) > 0.1))
    zeros = normal("zeros", 256)
    zeros[64:128] = 0
    cases["zero_block"] = zeros
    cases["zero_tail"] = torch.cat([normal("zero_tail", 64), torch.zeros(9)])
    cases["all_zero"] = torch.zeros(128)
    cases["equal_absmax"] = torch.cat([torch.linspace(-1, 1, 64), torch.linspace(1, -1, 64)])
    cases["tiny"] = normal("tiny", 128) * 1e-6
    result = {f"{name}_{suffix}": value.to(dtype) for name, value in cases.items() for suffix, dtype in DTYPES.items()}
    # Thresholds are float32 numbers; scaled by a power of two they stay exact.
    result["thresholds_f32"] = torch.cat([thresholds(), thresholds() / 8])
    result["thresholds_tail_f32"] = torch.cat([normal("tail", 64), thresholds()[:62] / 4])
    # More than 256 blocks, so that there are two nested blocks.
    result["matrix_bf16"] = normal("matrix", 128, 192).to(torch.bfloat16)
    return result


def differences(ours: torch.Tensor, theirs: torch.Tensor) -> dict:
    ours, theirs = ours.reshape(-1), theirs.reshape(-1)
    at = ((ours != theirs) & ~(ours.isnan() & theirs.isnan())).nonzero().reshape(-1)
    return {"at": at.tolist(), "value": theirs[at].tolist()} if len(at) else {}


def make_case(name: str, weight: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict:
    packed, absmax = reference.quantize(weight)
    values = reference.dequantize(packed, absmax, weight.shape, weight.dtype)
    bnb_packed, state = bnb.quantize_4bit(weight, blocksize=reference.BLOCK, quant_type="nf4")
    found = {
        "packed": differences(packed, bnb_packed),
        "absmax": differences(absmax, state.absmax),
        "dequantized": differences(values, bnb.dequantize_4bit(bnb_packed, state)),
    }
    _, nested_state = bnb.quantize_4bit(weight, blocksize=reference.BLOCK, quant_type="nf4", compress_statistics=True)
    offset, inner = nested_state.offset, nested_state.state2
    rebuilt = reference.reconstruct(nested_state.absmax, inner.absmax, offset)
    nested_values = reference.dequantize(packed, rebuilt, weight.shape, weight.dtype)
    found["double.dequantized"] = differences(nested_values, bnb.dequantize_4bit(bnb_packed, nested_state))
    # Nested codes of bitsandbytes come from its own absmax, 1e-38 in a zero tail included: no difference in float32.
    exact = reference.double_quantize(absmax)
    if not torch.equal(exact.offset, offset) or not torch.equal(exact.nested_absmax, inner.absmax):
        raise SystemExit(f"{name}: offset or nested_absmax differs from bitsandbytes")
    if (exact.codes.int() - nested_state.absmax.int()).abs().masked_fill(
        exact.nested_absmax.repeat_interleave(256)[: len(absmax)] == 0, 0
    ).max() > 4:
        raise SystemExit(f"{name}: nested codes are not close to bitsandbytes'")
    entries = {
        "input": weight,
        "packed": packed,
        "absmax": absmax,
        "dequantized": values,
        "double.codes": nested_state.absmax,
        "double.nested_absmax": inner.absmax,
        "double.absmax": rebuilt,
        "double.dequantized": nested_values,
        "double.exact_codes": exact.codes,
        "double.exact_absmax": exact.absmax,
    }
    tensors |= {f"{name}.{key}": value for key, value in entries.items()}
    return {
        "name": name,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "shape": list(weight.shape),
        "numel": weight.numel(),
        "offset": offset.item(),
        "offset_float64": absmax.double().mean().float().item(),
        "bitsandbytes": {key: value for key, value in found.items() if value},
    }


def shorten(case: dict) -> dict:
    """Long lists of wrong elements say no more than their number."""
    for key, value in case["bitsandbytes"].items():
        if len(value["at"]) > 16:
            case["bitsandbytes"][key] = {"count": len(value["at"])}
    return case


def make() -> None:
    tensors = {"nf4_map": reference.NF4_MAP, "dynamic_map": reference.DYNAMIC_MAP}
    cases = [shorten(make_case(name, weight, tensors)) for name, weight in inputs().items()]
    save_tensors(ROOT / "nf4" / "nf4.safetensors", tensors)
    versions = {"torch": torch.__version__, "bitsandbytes": bitsandbytes.__version__}
    save_json(ROOT / "nf4" / "index.json", {"versions": versions, "notes": NOTES, "cases": cases})
    for case in cases:
        codes = tensors[f"{case['name']}.double.codes"]
        off = int((codes != tensors[f"{case['name']}.double.exact_codes"]).sum())
        if case["bitsandbytes"] or off or case["offset"] != case["offset_float64"]:
            print(f"  {case['name']}: {case['bitsandbytes']}, {off} of {len(codes)} nested codes, {case['offset'] == case['offset_float64']}")


if __name__ == "__main__":
    make()
