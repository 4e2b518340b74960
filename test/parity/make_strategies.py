"""Strategies through PEFT in float64: loss, gradient of every trained tensor, ten steps of the strategy's optimiser."""

import peft.optimizers.lorafa as lorafa
import torch
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer

from common import ROOT, forward, load_double, loss_count, loss_sum, save_json, save_tensors
from make_lora import ATTENTION, MLP, OPTIMIZER, adapter_tensors, attach, train_batches
from make_models import batch_of

# PEFT multiplies the projected gradient in bfloat16 where the machine has it.
lorafa.is_bf16_available = lambda: False

_lora = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION + MLP}


def lora_fa(model):
    return create_lorafa_optimizer(
        model, r=_lora["r"], lora_alpha=_lora["lora_alpha"], lr=OPTIMIZER["lr"], weight_decay=0.0
    )


def lora_plus(model):
    return create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=OPTIMIZER["lr"],
        loraplus_lr_ratio=16,
        loraplus_weight_decay=OPTIMIZER["weight_decay"],
        betas=tuple(OPTIMIZER["betas"]),
        eps=OPTIMIZER["eps"],
    )


# name, model, strategy as config files spell it, PEFT configuration, optimiser, its settings
CASES = [
    (
        "lora_fa",
        "llama3",
        {"name": "lora-fa", **_lora, "rank_pattern": {"v_proj": 2}, "use_rslora": True},
        {**_lora, "rank_pattern": {"v_proj": 2}, "use_rslora": True},
        lora_fa,
        {**OPTIMIZER, "eps": 1e-6, "weight_decay": 0.0},
    ),
    (
        "lora_plus",
        "smollm2",
        {"name": "lora-plus", "loraplus_lr_ratio": 16, "adapter": {"name": "lora", **_lora}},
        _lora,
        lora_plus,
        OPTIMIZER,
    ),
]


def train(model, optimizer, batches) -> tuple[list[float], list[float]]:
    losses, norms = [], []
    for window in batches:
        count = sum(map(loss_count, window))
        optimizer.zero_grad()
        total = 0.0
        for batch in window:
            loss = loss_sum(forward(model, batch), batch) / count
            loss.backward()
            total += loss.item()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        norms.append(torch.nn.utils.clip_grad_norm_(trained, OPTIMIZER["max_grad_norm"]).item())
        optimizer.step()
        losses.append(total)
    return losses, norms


def gradients(model) -> dict[str, torch.Tensor]:
    return {
        f"grad.{key.replace('.default', '')}": parameter.grad.float()
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def make_case(name: str, base: str, strategy: dict, peft: dict, optimizer_of, settings: dict, batches) -> dict:
    model = attach(load_double(ROOT / "models" / base), name, peft)
    optimizer = optimizer_of(model)
    tensors = adapter_tensors(model, "init")
    batch = batch_of(base)
    loss = loss_sum(forward(model, batch), batch) / loss_count(batch)
    loss.backward()
    tensors |= gradients(model)
    losses, norms = train(model, optimizer, batches)
    tensors |= adapter_tensors(model, "final")
    save_tensors(ROOT / "strategies" / f"{name}.safetensors", tensors)
    print(f"  {name}: loss {loss.item():.6f}, {losses[0]:.4f} -> {losses[-1]:.4f}")
    return {
        "name": name,
        "model": base,
        "strategy": strategy,
        "loss": loss.item(),
        "optimizer": settings,
        "losses": losses,
        "grad_norms": norms,
    }


def make() -> None:
    batches = train_batches()
    save_json(ROOT / "strategies" / "cases.json", [make_case(*case, batches) for case in CASES])


if __name__ == "__main__":
    make()
