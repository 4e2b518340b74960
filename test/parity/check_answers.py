"""Checks that transformers and PEFT give the answers that lowrank gives with a base and an adapter.

    python test/parity/check_answers.py BASE ADAPTER ANSWERS

ANSWERS is what `lowrank generate --model BASE --adapter ADAPTER --quantization none --json --prompt …` printed: a line
for each prompt. Each goes through the tokenizer's own chat template and is answered greedily, in fp32. Prints one JSON
line; exit code 1 when an answer differs.
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> int:
    base, adapter, answers = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    differing = []
    with open(answers, encoding="utf-8") as lines:
        asked = [json.loads(line) for line in lines]
    for line in asked:
        chat = [{"role": "user", "content": line["prompt"]}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(ids, max_new_tokens=128, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        if answer != line["text"]:
            differing.append({"prompt": line["prompt"], "lowrank": line["text"], "peft": answer})
    print(json.dumps({"answers": len(asked), "differing": differing}))
    return 1 if differing or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
