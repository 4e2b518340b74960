"""One training through PEFT on the CPU in fp32 with one thread, as repeat_cells.mjs describes it.

    python benchmarks/peers/repeat_cell.py MODEL_FOLDER ADAPTER_FOLDER JOB.json

The job has micro-batches of each step with its learning rate, and test rows: ids, the id to predict at each place (-100:
none), and the bounds of sequences. Prints JSON: the loss of every step and of every test row, nats per supervised token.
"""

import json
import os
import sys
from importlib.metadata import version

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer

IGNORE = -100


def loss_sum(model, batch: dict) -> torch.Tensor:
    """Sequences stand beside each other, padded at the end."""
    spans = list(zip(batch["bounds"], batch["bounds"][1:]))
    width = max(end - begin for begin, end in spans)
    ids = torch.zeros(len(spans), width, dtype=torch.long)
    labels = torch.full((len(spans), width), IGNORE)
    mask = torch.zeros(len(spans), width, dtype=torch.long)
    for row, (begin, end) in enumerate(spans):
        ids[row, : end - begin] = torch.tensor(batch["tokens"][begin:end])
        labels[row, : end - begin] = torch.tensor(batch["labels"][begin:end])
        mask[row, : end - begin] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )


def supervised(batch: dict) -> int:
    return sum(label != IGNORE for label in batch["labels"])


def main() -> None:
    folder, adapter, job_path = sys.argv[1:]
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with open(job_path) as file:
        job = json.load(file)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = {"lr": job["rate"], "weight_decay": job["weight_decay"]}
    if job["ratio"] == 1:
        optimizer = torch.optim.AdamW(trained, **settings)
    else:
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=job["rate"], loraplus_lr_ratio=job["ratio"],
            loraplus_weight_decay=job["weight_decay"],
        )
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in job["steps"]:
        for group, peak in zip(optimizer.param_groups, peaks):
            group["lr"] = peak * step["rate"] / job["rate"]
        count = sum(supervised(batch) for batch in step["batches"])
        total = 0.0
        for batch in step["batches"]:
            loss = loss_sum(model, batch) / count
            loss.backward()
            total += loss.item()
        if job["max_grad_norm"]:
            torch.nn.utils.clip_grad_norm_(trained, job["max_grad_norm"])
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    model.eval()
    with torch.no_grad():
        test = [(loss_sum(model, batch) / supervised(batch)).item() for batch in job["test"]]
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    print(json.dumps({"train_losses": losses, "test_losses": test, "versions": versions}))


if __name__ == "__main__":
    main()
