"""Checks that PEFT loads an adapter folder that lowrank wrote and gives lowrank's logits.

    python test/parity/check_roundtrip.py BASE ADAPTER LOGITS [--tolerance 1e-4]

BASE is a Hugging Face model folder, ADAPTER a PEFT folder, LOGITS a safetensors file that lowrank wrote from
the two: `input_ids` I32 or I64 [T], `logits` F32 [T, vocab] and, for packed sequences, `cu_seqlens` [n + 1].
Prints one JSON line with the largest relative error over the positions and the relative error of the whole.
Exit code 0 when the former is at most the tolerance, 1 when it is above or when PEFT skips a tensor of the
adapter or finds one missing.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file

from common import forward, load_double, relative_error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()

    dumped = load_file(options.logits)
    ids = dumped["input_ids"]
    batch = {"input_ids": ids, "cu_seqlens": dumped.get("cu_seqlens", torch.tensor([0, len(ids)]))}
    model = PeftModel.from_pretrained(load_double(options.base), options.adapter)
    loaded = set_peft_model_state_dict(model, load_peft_weights(str(options.adapter)))
    unexpected = loaded.unexpected_keys
    # AdaLoRA's ranknum is a count that PEFT does not save.
    missing = [
        key
        for key in loaded.missing_keys
        if any(part in key for part in ("lora", "vera_lambda", "hada", "lokr", "miss", "oft", "hira", "modules_to_save")) and "ranknum" not in key
    ]
    with torch.no_grad():
        ours = forward(model.double().eval(), batch)
    theirs = dumped["logits"].double()
    worst = ((theirs - ours).norm(dim=1) / ours.norm(dim=1)).max().item()
    good = worst <= options.tolerance and not unexpected and not missing
    report = {
        "max_relative_error": worst,
        "relative_error": relative_error(theirs, ours),
        "positions": len(ids),
        "unexpected_tensors": unexpected,
        "missing_tensors": missing,
        "ok": good,
    }
    print(json.dumps(report))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
