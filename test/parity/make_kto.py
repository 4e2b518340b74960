"""KTO of TRL through PEFT in float64: loss, metrics and gradient of every LoRA tensor.

`KTOTrainer._compute_loss`, called on the log-probabilities of a tiny model whose sequences run one by one, as
make_preference.py does for pairs.
"""

from collections import defaultdict
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from peft import PeftModel
from trl import KTOTrainer

from common import ROOT, generator, load_double
from make_preference import fused, identity, log_probs, write_cases

# Tokens of prompt and answer of each row, and whether the answer is good.
ROWS = [(4, 6, True), (7, 12, False), (3, 8, True), (5, 4, True), (6, 9, False)]
# `shift` lowers the reference of the mismatched rows, so that the estimated divergence is positive.
CASES = {
    "kto": {"beta": 0.3},
    "kto_far": {"beta": 0.3, "shift": 2.5},
    "kto_weighted": {"beta": 1.2, "desirable_weight": 1.5, "undesirable_weight": 0.7, "shift": 1.25},
}


def rows_of(vocab: int) -> list[dict]:
    rng = generator("kto rows")
    draw = lambda count: torch.randint(0, vocab, (count,), generator=rng)
    rows = [{"prompt": draw(prompt), "answer": draw(answer), "label": label} for prompt, answer, label in ROWS]
    for row, before in zip(rows, [rows[-1], *rows[:-1]]):
        row["own"] = torch.cat([row["prompt"], row["answer"]])
        row["mismatched"] = torch.cat([row["prompt"], before["answer"]])
    return rows


def padded(rows: list[dict], key: str, prefix: str) -> dict[str, torch.Tensor]:
    width = max(len(row[key]) for row in rows)
    pad = lambda values: torch.stack([torch.nn.functional.pad(v, (0, width - len(v))) for v in values])
    answers = [torch.arange(len(row[key])).ge(len(row["prompt"])).long() for row in rows]
    return {
        f"{prefix}input_ids": pad([row[key] for row in rows]),
        f"{prefix}attention_mask": pad([torch.ones_like(row[key]) for row in rows]),
        f"{prefix}completion_mask": pad(answers),
    }


def kto(model, rows, reference, shift=0.0, **options):
    trainer = MagicMock()
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=identity, gather_for_metrics=identity
    )
    trainer.model = SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    trainer._compute_kl_logps = partial(KTOTrainer._compute_kl_logps, trainer)
    trainer.loss_type = "kto"
    trainer.precompute_ref_logps = trainer.calculate_KL = True
    trainer.aux_loss_enabled = False
    trainer._total_train_tokens = 0
    trainer._tp_size = 1
    for key, value in ({"desirable_weight": 1.0, "undesirable_weight": 1.0} | options).items():
        setattr(trainer, key, value)
    inputs = padded(rows, "own", "") | padded(rows, "mismatched", "KL_")
    inputs["label"] = torch.tensor([row["label"] for row in rows])
    inputs |= {"ref_logps": reference["own"], "ref_KL_logps": reference["mismatched"] - shift}
    loss = KTOTrainer._compute_loss(trainer, fused(model), inputs, False)
    names = ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
    return loss, {name: trainer._metrics["train"][name][0] for name in names}


def main():
    base = load_double(ROOT / "models" / "llama3")
    model = PeftModel.from_pretrained(base, ROOT / "peft" / "all_linear", is_trainable=True).double()
    rows = rows_of(base.config.vocab_size)
    # The reference is another model than the policy: with the policy itself all rewards are zero.
    with torch.no_grad(), model.disable_adapter():
        reference = {
            key: torch.stack([log_probs(model, row[key])[len(row["prompt"]) - 1 :].sum() for row in rows])
            for key in ("own", "mismatched")
        }
    about = {
        "rows": [
            {
                "own": row["own"].tolist(),
                "mismatched": row["mismatched"].tolist(),
                "prompt": len(row["prompt"]),
                "label": row["label"],
            }
            for row in rows
        ],
        "reference": {key: values.tolist() for key, values in reference.items()},
    }
    cases = {
        name: ({"options": options}, lambda options=options: kto(model, rows, reference, **options))
        for name, options in CASES.items()
    }
    write_cases(model, about, cases, "kto.json", "kto_gradients.safetensors")


if __name__ == "__main__":
    main()
