"""Makes the golden files: all parts, or those named. What each file holds: README.md.

    python test/parity/make_goldens.py [models] [lora] [strategies] [full] [peft] [nested] [nf4] [quantized] [bnb] [ggml] [gguf] [optimizers] [numbers] [data]
"""

import importlib
import os
import sys

# Names that end up in files (base_model_name_or_path) are relative to this folder.
os.chdir(os.path.dirname(os.path.abspath(__file__)))
os.environ["HF_HUB_OFFLINE"] = "1"

# In order: lora, strategies, full, peft, nested and bnb read what models wrote.
PARTS = ["models", "lora", "strategies", "full", "peft", "nested", "nf4", "quantized", "bnb", "ggml", "gguf", "optimizers", "numbers", "data"]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise SystemExit(f"no part named {unknown[0]}; parts are {', '.join(PARTS)}")
    for part in PARTS:
        if not names or part in names:
            print(part)
            importlib.import_module(f"make_{part}").make()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # PEFT writes target_modules in the order of a set, which the hash seed decides.
        os.execve(sys.executable, [sys.executable, "make_goldens.py", *sys.argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})
    main(sys.argv[1:])
