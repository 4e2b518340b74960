"""Checks that transformers loads merged folders that lowrank wrote and gives lowrank's logits.

    LOWRANK_MERGED_FOLDERS=OUT npx vitest run --project=unit test/parity/merged.test.ts
    python test/parity/check_merged.py OUT [--tolerance 1e-5]

OUT has a folder per model and source (`MODEL/folder`, `MODEL/gguf`): `model`, the written folder, and `logits.safetensors`,
of the base and the adapter: `input_ids` I32 [T] and `logits` F32 [T, vocab]. Prints a JSON line for each with the relative
error of the logits or the error of loading. Exit code 0 when all are at most the tolerance.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from common import load_double, relative_error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args()

    good = True
    for path in sorted(options.out.glob("*/*/logits.safetensors")):
        report = {"model": path.parts[-3], "source": path.parts[-2]}
        dumped = load_file(path)
        try:
            model = load_double(path.parent / "model")
            with torch.no_grad():
                theirs = model(dumped["input_ids"].long()[None], use_cache=False).logits[0]
            report["relative_error"] = relative_error(dumped["logits"], theirs)
            report["ok"] = report["relative_error"] <= options.tolerance
        except Exception as error:  # Reported with the others.
            report.update({"error": f"{type(error).__name__}: {error}", "ok": False})
        good &= report["ok"]
        print(json.dumps(report), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
