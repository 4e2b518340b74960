"""GRPO of TRL through PEFT in float64: loss, metrics and gradient of every LoRA tensor, and advantages.

`GRPOTrainer._compute_loss`, called on the log-probabilities of a tiny model whose sequences run one by one, as
make_kto.py does. Advantages are computed with TRL's `nanstd` as `_generate_and_score_completions` does.
"""

from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from peft import PeftModel
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from common import ROOT, generator, load_double
from make_preference import identity, log_probs, write_cases

# Tokens of prompt and answer of each row.
ROWS = [(4, 6), (4, 9), (7, 12), (7, 3), (3, 8), (3, 1)]
MAX_COMPLETION_LENGTH = 12
# `old` moves the log-probabilities at sampling time away from the current ones, so that ratios are clipped.
CASES = {
    "dapo": {"loss_type": "dapo"},
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "clipped": {"loss_type": "dapo", "old": 0.3, "epsilon_low": 0.2, "epsilon_high": 0.28},
    "clipped_rows": {"loss_type": "grpo", "old": 0.3, "epsilon_low": 0.1, "epsilon_high": 0.1},
    "kl": {"loss_type": "dapo", "old": 0.3, "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.4},
}
REWARDS = [[0.0, 1.0, 0.25, 1.0], [0.5, 0.5, 0.5, 0.5], [-2.0, 3.5, 0.1, 0.0]]


def rows_of(vocab: int) -> list[dict]:
    rng = generator("grpo rows")
    draw = lambda count: torch.randint(0, vocab, (count,), generator=rng)
    rows = [{"prompt": draw(prompt), "answer": draw(answer)} for prompt, answer in ROWS]
    for row in rows:
        row["ids"] = torch.cat([row["prompt"], row["answer"]])
        row["noise"] = torch.randn(len(row["answer"]), generator=rng, dtype=torch.float64)
    return rows


def padded(values: list[torch.Tensor], left: bool = False) -> torch.Tensor:
    width = max(len(value) for value in values)
    sides = lambda value: (width - len(value), 0) if left else (0, width - len(value))
    return torch.stack([torch.nn.functional.pad(value, sides(value)) for value in values])


def answers(model, rows) -> list[torch.Tensor]:
    return [log_probs(model, row["ids"])[len(row["prompt"]) - 1 :] for row in rows]


def grpo(model, rows, advantages, reference, loss_type, old=0.0, epsilon_low=0.2, epsilon_high=0.2, beta=0.0):
    trainer = MagicMock()
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=identity, reduce=lambda value, **_: value, num_processes=1
    )
    trainer.model = SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    scored = answers(model, rows)
    values = padded(scored)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (values, torch.zeros_like(values), None)
    trainer.args = SimpleNamespace(delta=None, use_bias_correction_kl=True, steps_per_generation=1)
    trainer.importance_sampling_level = "token"
    trainer.loss_type, trainer.beta = loss_type, beta
    trainer.epsilon_low, trainer.epsilon_high = epsilon_low, epsilon_high
    trainer.top_entropy_quantile = 1.0
    trainer.off_policy_mask_threshold = None
    trainer.current_gradient_accumulation_steps = 1
    trainer.max_completion_length = MAX_COMPLETION_LENGTH
    trainer.aux_loss_enabled = trainer.use_vllm = trainer._entropy_bonus_enabled = False
    mask = padded([torch.ones_like(row["answer"]) for row in rows])
    inputs = {
        "prompt_ids": padded([row["prompt"] for row in rows], left=True),
        "prompt_mask": padded([torch.ones_like(row["prompt"]) for row in rows], left=True),
        "completion_ids": padded([row["answer"] for row in rows]),
        "completion_mask": mask,
        "advantages": advantages,
        "num_items_in_batch": mask.sum(),
    }
    if old:
        sampled = [value.detach() + old * row["noise"] for value, row in zip(scored, rows)]
        inputs["old_per_token_logps"] = padded(sampled)
    if beta:
        inputs["ref_per_token_logps"] = padded(reference)
    loss = GRPOTrainer._compute_loss(trainer, model, inputs)
    names = {"clip_ratio/low": "clip_ratio/low_mean", "clip_ratio/high": "clip_ratio/high_mean"}
    return loss, {name: trainer._metrics["train"][theirs][0] for name, theirs in names.items()}


def advantages_of(rewards: torch.Tensor, scale: str) -> torch.Tensor:
    advantages = rewards - rewards.mean(1, keepdim=True)
    if scale == "none":
        return advantages
    std = nanstd(rewards, dim=1, keepdim=True) if scale == "group" else nanstd(rewards)
    return advantages / (std + 1e-4)


def main():
    base = load_double(ROOT / "models" / "llama3")
    model = PeftModel.from_pretrained(base, ROOT / "peft" / "all_linear", is_trainable=True).double()
    rows = rows_of(base.config.vocab_size)
    advantages = torch.tensor([0.9, -0.7, 1.3, -1.1, 0.4, -0.5], dtype=torch.float64)
    with torch.no_grad():
        current = answers(model, rows)
        with model.disable_adapter():
            reference = answers(model, rows)
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    about = {
        "rows": [
            {
                "tokens": row["ids"].tolist(),
                "prompt": len(row["prompt"]),
                "advantage": advantage.item(),
                "current": now.tolist(),
                "noise": row["noise"].tolist(),
                "reference": before.tolist(),
            }
            for row, advantage, now, before in zip(rows, advantages, current, reference)
        ],
        "max_completion_length": MAX_COMPLETION_LENGTH,
        "rewards": REWARDS,
        "advantages": {scale: advantages_of(rewards, scale).tolist() for scale in ("group", "batch", "none")},
    }
    cases = {
        name: ({"options": options}, lambda options=options: grpo(model, rows, advantages, reference, **options))
        for name, options in CASES.items()
    }
    write_cases(model, about, cases, "grpo.json", "grpo_gradients.safetensors")


if __name__ == "__main__":
    main()
