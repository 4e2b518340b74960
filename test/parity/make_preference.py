"""Preference losses of TRL through PEFT in float64: loss, metrics and gradient of every LoRA tensor.

DPO is `DPOTrainer._compute_loss`, called on the log-probabilities of a tiny model whose sequences run one by one: TRL's
head in float32 would leave its rounding in the goldens. ORPO is the whole `ORPOTrainer.get_batch_loss_metrics`, padding
included; its own step to float32 stays. `orpo_completions` has the same odds ratio, and the negative log-likelihood of the
chosen answers alone.
"""

import json
from collections import defaultdict
from types import MethodType, SimpleNamespace
from unittest.mock import MagicMock

import torch
from peft import PeftModel, get_peft_model_state_dict
from trl import DPOTrainer
from trl.experimental.orpo import ORPOTrainer

from common import ROOT, generator, load_double, save_tensors

FOLDER = ROOT / "preference"
# Tokens of prompt, chosen and rejected of each pair.
LENGTHS = [(4, 6, 9), (7, 12, 5), (3, 8, 8)]
CASES = {
    "dpo": {"loss_types": ["sigmoid"], "beta": 0.3},
    "ipo": {"loss_types": ["ipo"], "beta": 0.3},
    "dpo_strong": {"loss_types": ["sigmoid"], "beta": 1.5},
}


def pairs(vocab: int) -> list[dict[str, torch.Tensor]]:
    rng = generator("preference pairs")
    draw = lambda count: torch.randint(0, vocab, (count,), generator=rng)
    rows = []
    for prompt, chosen, rejected in LENGTHS:
        start = draw(prompt)
        rows.append({side: torch.cat([start, draw(count)]) for side, count in (("chosen", chosen), ("rejected", rejected))})
    return rows


def log_probs(model, ids: torch.Tensor) -> torch.Tensor:
    """Of each token but the first, given those before it."""
    logits = model(input_ids=ids[None]).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]


class Outputs:
    """What a fused head gives: masked log-probabilities, and zeros for what only metrics read."""

    def __init__(self, values: torch.Tensor):
        self.log_probs = values

    def __getattr__(self, name: str) -> torch.Tensor:
        return torch.zeros_like(self.log_probs, dtype=torch.bool if "top1" in name or "correct" in name else None)


def fused(model):
    def forward(input_ids, attention_mask, labels, **_):
        values = torch.zeros(input_ids[:, 1:].shape, dtype=torch.float64)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask)):
            count = int(mask.sum())
            values[row, : count - 1] = log_probs(model, ids[:count])
        return Outputs(values * (labels[:, 1:] != -100))

    return forward


def batch(rows) -> dict[str, torch.Tensor]:
    sides = [row["chosen"] for row in rows] + [row["rejected"] for row in rows]
    width = max(len(ids) for ids in sides)
    pad = lambda values: torch.stack([torch.nn.functional.pad(v, (0, width - len(v))) for v in values])
    prompts = [prompt for prompt, _, _ in LENGTHS] * 2
    masks = [torch.arange(len(ids)).ge(prompt).long() for ids, prompt in zip(sides, prompts)]
    return {
        "input_ids": pad(sides),
        "attention_mask": pad([torch.ones_like(ids) for ids in sides]),
        "completion_mask": pad(masks),
    }


def identity(value):
    return value


def dpo(model, rows, reference, options):
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=identity, gather_for_metrics=identity)
    trainer = MagicMock()
    trainer.accelerator = accelerator
    trainer.model = SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    trainer.loss_weights = [1.0]
    trainer.f_divergence_type = "reverse_kl"
    trainer.label_smoothing = 0.0
    trainer.precompute_ref_logps = True
    trainer.ld_alpha = None
    trainer._total_train_tokens = 0
    trainer._tp_size = 1
    trainer.aux_loss_enabled = trainer.use_weighting = False
    for key, value in options.items():
        setattr(trainer, key, value)
    inputs = batch(rows) | {"ref_chosen_logps": reference[0], "ref_rejected_logps": reference[1]}
    loss = DPOTrainer._compute_loss(trainer, fused(model), inputs, False)
    return loss, {key: trainer._metrics["train"][key][0] for key in ("rewards/chosen", "rewards/margins", "rewards/accuracies")}


def orpo_trainer(beta):
    trainer = SimpleNamespace(beta=beta, is_encoder_decoder=False, padding_value=0, aux_loss_enabled=False)
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=identity)
    for method in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trainer, method, MethodType(getattr(ORPOTrainer, method), trainer))
    for function in ("concatenated_inputs", "get_batch_logps"):
        setattr(trainer, function, getattr(ORPOTrainer, function))
    return trainer


def orpo(model, rows, beta):
    made = batch(rows)
    labels = made["input_ids"].where(made["completion_mask"].bool() & made["attention_mask"].bool(), -100)
    inputs = {}
    for side, part in (("chosen", slice(0, len(rows))), ("rejected", slice(len(rows), None))):
        inputs[f"{side}_input_ids"] = made["input_ids"][part]
        inputs[f"{side}_attention_mask"] = made["attention_mask"][part]
        inputs[f"{side}_labels"] = labels[part]
    loss, metrics = ORPOTrainer.get_batch_loss_metrics(orpo_trainer(beta), model, inputs)
    kept = ("rewards/chosen", "rewards/margins", "rewards/accuracies", "nll_loss", "log_odds_ratio", "log_odds_chosen")
    return loss, {key: metrics[key] for key in kept}


def orpo_completions(model, rows, beta):
    trainer = orpo_trainer(beta)
    means, nll, tokens = {"chosen": [], "rejected": []}, 0, 0
    for row, (prompt, _, _) in zip(rows, LENGTHS):
        for side in means:
            answer = log_probs(model, row[side])[prompt - 1 :]
            means[side].append(answer.mean())
            if side == "chosen":
                nll, tokens = nll - answer.sum(), tokens + len(answer)
    losses, chosen, rejected, _, _ = trainer.odds_ratio_loss(*(torch.stack(means[side]) for side in means))
    return nll / tokens - losses.mean(), {
        "rewards/chosen": chosen.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
        "rewards/accuracies": (chosen > rejected).double().mean().item(),
    }


def write_cases(model, about, cases, losses, gradients):
    """Writes the loss and the gradients of each case: what to note of it, and a function of its loss and metrics."""
    about["cases"] = {}
    tensors = {}
    for name, (noted, run) in cases.items():
        model.zero_grad()
        loss, metrics = run()
        loss.backward()
        about["cases"][name] = {**noted, "loss": loss.item(), "metrics": metrics}
        grads = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
        for key, value in get_peft_model_state_dict(model, state_dict=grads).items():
            tensors[f"{name}.{key}"] = value.float()
    (FOLDER / losses).write_text(json.dumps(about, indent=1) + "\n")
    save_tensors(FOLDER / gradients, tensors)


def main():
    FOLDER.mkdir(exist_ok=True)
    base = load_double(ROOT / "models" / "llama3")
    model = PeftModel.from_pretrained(base, ROOT / "peft" / "all_linear", is_trainable=True).double()
    rows = pairs(base.config.vocab_size)
    # The reference is another model than the policy: with the policy itself all margins are zero.
    with torch.no_grad(), model.disable_adapter():
        reference = [
            torch.stack([log_probs(model, row[side])[prompt - 1 :].sum() for row, (prompt, _, _) in zip(rows, LENGTHS)])
            for side in ("chosen", "rejected")
        ]
    about = {
        "rows": [{side: ids.tolist() for side, ids in row.items()} for row in rows],
        "prompts": [prompt for prompt, _, _ in LENGTHS],
        "reference": [values.tolist() for values in reference],
    }
    cases = {
        name: ({}, lambda options=options: dpo(model, rows, reference, options)) for name, options in CASES.items()
    }
    cases["orpo"] = ({}, lambda: orpo(model, rows, 0.4))
    cases["orpo_completions"] = ({}, lambda: orpo_completions(model, rows, 0.4))
    write_cases(model, about, cases, "losses.json", "gradients.safetensors")


if __name__ == "__main__":
    main()
