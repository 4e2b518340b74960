"""DP-SGD through Opacus in float64: gradients of every example, their norms, the clipped sum over the expected number.

Not part of make_goldens.py, since it needs Opacus: requirements.txt, then requirements-privacy.txt with --no-deps.

Opacus sees a padded batch, whose padding comes last and is not looked at; its hooks take per-example gradients from
PEFT's linears, and from modules that train whole. Also at fewer ranks than there are: what DyLoRA trains at rank b is a
LoRA of rank b.
"""

import copy

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from common import IGNORE, ROOT, adapter_tensors, load_double, make_batch, save_json, save_tensors, trained
from make_lora import ATTENTION, MLP, attach
from make_strategies import attach as attach_any
from make_strategies import gradients

RANK, ALPHA = 4, 8
# Sequences of each micro-batch. One has nothing to learn.
LENGTHS = [[5, 17, 1, 9], [22, 3, 11]]
EXPECTED = 5

# name, model, ranks in use, whether the last of those alone is trained, clipping norm
CASES = [
    ("private", "llama3", RANK, False, 4.5),
    ("private_active", "smollm2", 3, False, 9.5),
    ("private_last", "smollm2", 3, True, 6.0),
]
# Trained parameters besides A and B of linears: name, model, options of LoRA, clipping norm.
BESIDE = [
    ("modules", "llama3", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens", "norm"]}, 4.0),
    ("modules_tied", "smollm2", {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["embed_tokens"]}, 10.0),
    ("bias", "qwen2", {"target_modules": ["q_proj", "up_proj"], "bias": "all"}, 4.0),
    ("embedding", "llama3", {"target_modules": ["v_proj", "embed_tokens"]}, 4.0),
    ("embedding_tied", "smollm2", {"target_modules": ["embed_tokens"], "modules_to_save": ["model.norm"]}, 14.0),
]


def padded(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and targets [sequences, longest]."""
    lengths = batch["cu_seqlens"].diff().tolist()
    pad = lambda key, value: torch.nn.utils.rnn.pad_sequence(
        batch[key].long().split(lengths), batch_first=True, padding_value=value
    )
    return pad("input_ids", 0), pad("targets", IGNORE)


def mean_losses(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of each sequence, over its own labels; 0 where it has none."""
    ids, targets = padded(batch)
    logits = model(ids, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none"
    )
    return losses.sum(1) / (targets != IGNORE).sum(1).clamp(min=1)


def cut(model, whole, rank: int) -> None:
    """The first ranks of another adapter's factors."""
    with torch.no_grad():
        for own, other in zip(trained(model), trained(whole), strict=True):
            own.copy_(other[tuple(slice(size) for size in own.shape)])


def widened(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zeros at the ranks that are not in use."""
    wide = {}
    for key, value in tensors.items():
        by = RANK - value.shape[-2 if "lora_A" in key else -1]
        wide[key] = torch.nn.functional.pad(value, (0, 0, 0, by) if "lora_A" in key else (0, by))
    return wide


def clipped_sum(name: str, model, batches, clipping_norm: float, sampled=lambda count: None) -> list[float]:
    """Leaves what DPOptimizer releases without noise in the gradients; returns the norms of the examples.

    `sampled` sees the gradients of each micro-batch's examples, and is told how many examples came before.
    """
    model.train()
    hooked = GradSampleModule(model, loss_reduction="sum", strict=False)
    optimizer = DPOptimizer(
        torch.optim.SGD(trained(model), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clipping_norm,
        expected_batch_size=EXPECTED,
    )
    norms = []
    for micro, batch in enumerate(batches):
        mean_losses(hooked, batch).sum().backward()
        hooked.disable_hooks()
        reach_embeddings(model, batch)
        hooked.enable_hooks()
        sampled(len(norms))
        norms += torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in trained(model)]).norm(dim=0).tolist()
        optimizer.signal_skip_step(do_skip=micro + 1 < len(batches))
        optimizer.pre_step()
        if micro + 1 < len(batches):
            optimizer.zero_grad()
    clipped = sum(norm > clipping_norm for norm in norms)
    print(f"  {name}: norms {min(norms):.3f} to {max(norms):.3f}, {clipped} of {len(norms)} above {clipping_norm}")
    return norms


def reach_embeddings(model, batch: dict[str, torch.Tensor]) -> None:
    """The factors that PEFT gives an embedding are no module, and hooks miss them; autograd takes one example at a time."""
    factors = [value for key, value in model.named_parameters() if "lora_embedding" in key]
    if factors:
        alone = [torch.autograd.grad(loss, factors, retain_graph=True) for loss in mean_losses(model, batch)]
        for factor, gradients_of in zip(factors, zip(*alone)):
            factor.grad_sample = torch.stack(gradients_of)


def make_case(name: str, base: str, active: int, last: bool, clipping_norm: float, batches) -> dict:
    config = {"r": RANK, "lora_alpha": ALPHA, "target_modules": ATTENTION + MLP}
    whole = attach(load_double(ROOT / "models" / base), name, config)
    tensors = adapter_tensors(whole, "init")
    model = attach(load_double(ROOT / "models" / base), name, {**config, "r": active})
    cut(model, whole, active)
    scale = next(module.scaling["default"] for module in model.modules() if isinstance(module, LoraLayer))

    def keep(count: int) -> None:
        for key, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if last:
                parameter.grad_sample.narrow(1 if "lora_A" in key else 2, 0, active - 1).zero_()
            for example, gradient in enumerate(parameter.grad_sample):
                short = key.replace(".default", "")
                tensors.update(widened({f"example.{count + example}.{short}": gradient.float()}))

    norms = clipped_sum(name, model, batches, clipping_norm, keep)
    tensors |= widened(adapter_tensors(model, "grad", grad=True))
    save_tensors(ROOT / "private" / f"{name}.safetensors", tensors)
    return {
        "name": name,
        "model": base,
        "rank": RANK,
        "scale": scale,
        "active": active,
        "last": last,
        "clipping_norm": clipping_norm,
        "expected": EXPECTED,
        "norms": norms,
    }


def make_beside(name: str, base: str, options: dict, clipping_norm: float, batches) -> dict:
    name = f"private_{name}"
    # PEFT adds to the lists that it is given.
    own = copy.deepcopy(options)
    peft = LoraConfig(r=RANK, lora_alpha=ALPHA, **own, ensure_weight_tying=name.endswith("modules_tied"))
    model = attach_any(load_double(ROOT / "models" / base), name, peft)
    tensors = adapter_tensors(model, "init")
    norms = clipped_sum(name, model, batches, clipping_norm)
    save_tensors(ROOT / "private" / f"{name}.safetensors", tensors | gradients(model))
    return {
        "name": name,
        "model": base,
        "strategy": {"name": "lora", "r": RANK, "lora_alpha": ALPHA, **options},
        "clipping_norm": clipping_norm,
        "expected": EXPECTED,
        "norms": norms,
    }


def make() -> None:
    batches = [make_batch(f"private/{i}", lengths, 256, prompt=1) for i, lengths in enumerate(LENGTHS)]
    tensors = {f"micro.{i}.{key}": tensor for i, batch in enumerate(batches) for key, tensor in batch.items()}
    save_tensors(ROOT / "private" / "batches.safetensors", tensors)
    save_json(ROOT / "private" / "cases.json", [make_case(*case, batches) for case in CASES])
    save_json(ROOT / "private" / "beside.json", [make_beside(*case, batches) for case in BESIDE])


if __name__ == "__main__":
    make()
