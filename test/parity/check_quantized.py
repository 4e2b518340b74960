"""Checks that transformers loads a quantized folder that lowrank wrote and gives lowrank's logits.

    python test/parity/check_quantized.py FOLDER LOGITS [--tolerance 1e-4]

FOLDER is a model in NF4, FP4 or int8, LOGITS a safetensors file that lowrank wrote of it: `input_ids` I32 [T] and `logits`
F32 [T, vocab]. Prints one JSON line with the relative error of the logits: of the weights as bitsandbytes decodes them, and
of its own linears, which round to bf16 where the CPU has it, and for int8 round activations to 8 bits. Exit code 0 when the
former is at most the tolerance.
"""

import argparse
import json
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from common import relative_error


def decode_linears(model) -> None:
    """Puts plain fp32 linears in the place of those of bitsandbytes."""
    for module in list(model.modules()):
        for name, linear in list(module.named_children()):
            if not isinstance(linear, (Linear4bit, Linear8bitLt)):
                continue
            weight = linear.weight
            if isinstance(linear, Linear4bit):
                weight.quant_state.dtype = torch.float32
                values = bnb.dequantize_4bit(weight.data, weight.quant_state)
            else:
                values = bnb.int8_vectorwise_dequant(weight.data, weight.SCB)
            plain = torch.nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
            plain.weight = torch.nn.Parameter(values)
            if linear.bias is not None:
                plain.bias = torch.nn.Parameter(linear.bias.float())
            setattr(module, name, plain)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()

    dumped = load_file(options.logits)
    ids = dumped["input_ids"].long()[None]
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32, device_map="cpu").eval()
    with torch.no_grad():
        own = relative_error(model(ids).logits[0], dumped["logits"])
    # From the files once more: on CPU, bitsandbytes packs weights anew when they are first used.
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32, device_map="cpu").eval()
    decode_linears(model)
    torch.nn.Module.float(model)  # transformers forbids its own
    with torch.no_grad():
        decoded = relative_error(model(ids).logits[0], dumped["logits"])
    good = decoded <= options.tolerance
    print(json.dumps({"decoded_weights": decoded, "own_linears": own, "ok": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
