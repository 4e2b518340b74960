"""LoRA through PEFT in float64: logits, loss, gradient of every LoRA tensor, ten AdamW steps.

B starts away from zero: with B = 0 half of the gradients vanish, and Adam turns their rounding into full steps.
"""

import hashlib

import bitsandbytes.functional as bnb
import torch
from peft import LoraConfig, get_peft_model
from transformers import get_scheduler

import nf4_reference
from common import (
    OPTIMIZER,
    ROOT,
    adapter_tensors,
    drawn,
    forward,
    generator,
    load_double,
    loss_count,
    loss_sum,
    make_batch,
    save_json,
    save_tensors,
    trained,
)
from make_models import batch_of

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
SHARED = [*ATTENTION, "input_linear", "output_linear"]
CONVOLVED = ["q_proj", "k_proj", "v_proj", "in_proj", "out_proj", "w1", "w2", "w3"]
DELTA = ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
SCHEDULE = {"type": "cosine", "warmup_steps": 2}
STEPS = 10
# Lengths of the sequences in both micro-batches of a step; the next step takes them rotated by one.
MICRO_LENGTHS = [[5, 17, 9], [11, 21, 6]]

_all = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION + MLP}
_fused = {**_all, "target_modules": FUSED}
_shared = {**_all, "target_modules": SHARED}
_convolved = {**_all, "target_modules": CONVOLVED}
_delta = {**_all, "target_modules": ATTENTION + DELTA + MLP}
_nf4 = {"type": "nf4", "blocksize": nf4_reference.BLOCK, "double_quant": False}

# name, model, PEFT configuration, quantization
CASES = [
    ("all_linear", "llama3", _all, None),
    ("tied", "smollm2", _all, None),
    ("bf16_base", "tinyllama", _all, None),
    (
        "patterns",
        "llama2",
        {
            **_all,
            "rank_pattern": {"q_proj": 8, r"layers\.1\.mlp\.up_proj": 2},
            "alpha_pattern": {"v_proj": 3, r"model\.layers\.0\..*down_proj": 5},
            "use_rslora": True,
        },
        None,
    ),
    ("qv_only", "mistral", {**_all, "target_modules": ["q_proj", "v_proj"]}, None),
    ("nf4", "llama3", _all, _nf4),
    ("nf4_double", "llama2", _all, {**_nf4, "double_quant": True}),
    ("nf4_odd", "odd", _all, {**_nf4, "double_quant": True}),
    ("linear_rope", "linear", _all, None),
    ("window", "mistral_window", _all, None),
    ("qwen2", "qwen2", _all, None),
    ("qwen2_window", "qwen2_window", _all, None),
    ("qwen3", "qwen3", _all, None),
    ("qwen3_window", "qwen3_window", _all, None),
    ("qwen3_nf4", "qwen3", _all, {**_nf4, "double_quant": True}),
    ("smollm3", "smollm3", _all, None),
    ("smollm3_window", "smollm3_window", _all, None),
    ("smollm3_nf4", "smollm3", _all, {**_nf4, "double_quant": True}),
    ("granite", "granite", _all, None),
    ("granite_odd", "granite_odd", _all, None),
    ("granite_nf4", "granite", _all, {**_nf4, "double_quant": True}),
    ("granite4", "granite4", _shared, None),
    ("granite4_nope", "granite4_nope", _shared, None),
    ("granite4_nf4", "granite4", _shared, {**_nf4, "double_quant": True}),
    ("olmo2", "olmo2", _all, None),
    ("olmo2_odd", "olmo2_odd", _all, None),
    ("olmo2_nf4", "olmo2", _all, {**_nf4, "double_quant": True}),
    ("olmo3", "olmo3", _all, None),
    ("olmo3_window", "olmo3_window", _all, None),
    ("olmo3_nf4", "olmo3", _all, {**_nf4, "double_quant": True}),
    ("gemma", "gemma", _all, None),
    ("gemma_odd", "gemma_odd", _all, None),
    ("gemma_nf4", "gemma", _all, {**_nf4, "double_quant": True}),
    ("gemma3", "gemma3", _all, None),
    ("gemma3_window", "gemma3_window", _all, None),
    ("gemma3_nf4", "gemma3", _all, {**_nf4, "double_quant": True}),
    ("ministral3", "ministral3", _all, None),
    ("ministral3_window", "ministral3_window", _all, None),
    ("ministral3_nf4", "ministral3", _all, {**_nf4, "double_quant": True}),
    ("phi3", "phi3", _fused, None),
    ("phi3_window", "phi3_window", _fused, None),
    ("phi3_nf4", "phi3", _fused, {**_nf4, "double_quant": True}),
    ("lfm2", "lfm2", _convolved, None),
    ("lfm2_odd", "lfm2_odd", _convolved, None),
    ("lfm2_nf4", "lfm2", _convolved, {**_nf4, "double_quant": True}),
    ("qwen3_5", "qwen3_5", _delta, None),
    ("qwen3_5_odd", "qwen3_5_odd", _delta, None),
    ("qwen3_5_nf4", "qwen3_5", _delta, {**_nf4, "double_quant": True}),
    ("tables_int8", "smollm2", {**_all, "target_modules": ["q_proj", "v_proj"]}, None),
    ("tables_nf4", "llama3", {**_all, "target_modules": ["q_proj", "v_proj"]}, None),
    ("tables_nf4_double", "odd", {**_all, "target_modules": ["q_proj", "v_proj"]}, {**_nf4, "double_quant": True}),
]

# Quantization of a case's embedding and head.
TABLES = {"tables_int8": "int8", "tables_nf4": "nf4", "tables_nf4_double": "nf4_double"}


def train_batches() -> list[list[dict[str, torch.Tensor]]]:
    def batch(step: int, micro: int):
        lengths = MICRO_LENGTHS[micro]
        rotation = step % len(lengths)
        name = f"train/{step}/{micro}"
        return make_batch(name, lengths[rotation:] + lengths[:rotation], 256, prompt=1 + (step + micro) % 2)

    return [[batch(step, micro) for micro in range(2)] for step in range(STEPS)]


def quantize_linears(model, double_quant: bool) -> dict[str, str]:
    """Replaces the seven linears of every layer by their dequantized values; returns their hashes."""
    hashes = {}
    for name, module in model.model.layers.named_modules(prefix="model.layers"):
        if not isinstance(module, torch.nn.Linear):
            continue
        hashes[name] = replace(module.weight, "nf4_double" if double_quant else "nf4")
    return hashes


def quantize_tables(model, form: str) -> dict[str, str]:
    """The same of the embedding and an untied head."""
    hashes = {"model.embed_tokens": replace(model.get_input_embeddings().weight, form)}
    if not model.config.tie_word_embeddings:
        hashes["lm_head"] = replace(model.get_output_embeddings().weight, form)
    return hashes


def replace(parameter: torch.nn.Parameter, form: str) -> str:
    """Puts the values of bitsandbytes' codes in the place of a weight; returns their hash."""
    weight = parameter.detach().float()
    if form == "int8":
        codes, absmax, _ = bnb.int8_vectorwise_quant(weight)
        values = bnb.int8_vectorwise_dequant(codes, absmax)
    else:
        packed, state = bnb.quantize_4bit(weight, blocksize=nf4_reference.BLOCK, quant_type="nf4")
        absmax = nf4_reference.double_quantize(state.absmax).absmax if form == "nf4_double" else state.absmax
        # Not bnb.dequantize_4bit: its CPU kernel takes the wrong absmax where rows are a multiple of 16 and
        # not of 64; elsewhere both are equal (nf4/index.json).
        values = nf4_reference.dequantize(packed.reshape(-1), absmax, weight.shape, torch.float32)
    with torch.no_grad():
        parameter.copy_(values)
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def attach(model, name: str, peft: dict):
    """PEFT's model with float64 factors whose values are float32 numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator(f"lora/{name}"))))
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **peft)).double()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator(f"{name}/{key}")) * 0.1)
            elif "lora_A" in key:
                parameter.copy_(parameter.float())
    return model


def draw(model, name: str) -> None:
    """Factors drawn by name, as drawn.ts draws them."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_A" in key or "lora_B" in key:
                bound = 0.2 if "lora_B" in key else parameter.shape[1] ** -0.5
                parameter.copy_(drawn(f"{name}/{key.replace('.default', '')}", parameter.shape, bound))


def adamw(model) -> torch.optim.Optimizer:
    settings = {key: value for key, value in OPTIMIZER.items() if key != "max_grad_norm"}
    return torch.optim.AdamW(trained(model), **settings, foreach=False)


def scheduled(schedule: dict, steps: int) -> list[float]:
    """What the base rate is multiplied by in each step, as transformers has it."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = get_scheduler(schedule["type"], optimizer, schedule["warmup_steps"], steps)
    factors = []
    for _ in range(steps):
        factors += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    return factors


def train(model, batches, optimizer=None, schedule=SCHEDULE) -> tuple[list[float], list[float]]:
    """Losses and gradient norms of clipped steps over windows of micro-batches; by default of AdamW."""
    optimizer = optimizer or adamw(model)
    rates = [group["lr"] for group in optimizer.param_groups]
    losses, norms = [], []
    for window, factor in zip(batches, scheduled(schedule, len(batches)), strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        count = sum(map(loss_count, window))
        optimizer.zero_grad()
        total = 0.0
        for batch in window:
            loss = loss_sum(forward(model, batch), batch) / count
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(trained(model), OPTIMIZER["max_grad_norm"]).item())
        optimizer.step()
        losses.append(total)
    return losses, norms


def make_case(name: str, base: str, peft: dict, quantization: dict | None, batches) -> dict:
    model = load_double(ROOT / "models" / base)
    hashes = quantize_linears(model, quantization["double_quant"]) if quantization else {}
    tables = quantize_tables(model, TABLES[name]) if name in TABLES else None
    model = attach(model, name, peft)
    draw(model, name)
    batch = batch_of(base)
    logits = forward(model, batch)
    loss = loss_sum(logits, batch) / loss_count(batch)
    loss.backward()
    tensors = adapter_tensors(model, "grad", grad=True)
    losses, norms = train(model, batches)
    tensors |= adapter_tensors(model, "final")
    save_tensors(ROOT / "lora" / f"{name}.safetensors", {"logits": logits.float(), **tensors})
    print(f"  {name}: loss {loss.item():.6f}, {losses[0]:.4f} -> {losses[-1]:.4f}, norms {norms[0]:.2f} -> {norms[-1]:.2f}")
    prefix = "base_model.model."
    scaling = {
        key.removeprefix(prefix): module.scaling["default"]
        for key, module in model.named_modules()
        if isinstance(getattr(module, "scaling", None), dict)
    }
    case = {
        "name": name,
        "model": base,
        "quantization": quantization,
        "peft": {"rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False, **peft},
        "scaling": scaling,
        "loss": loss.item(),
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        "losses": losses,
        "grad_norms": norms,
    }
    if quantization and not quantization["double_quant"]:
        case["weights_sha256"] = hashes
    if tables:
        case |= {"tables": TABLES[name], "tables_sha256": tables}
    return case


def make() -> None:
    batches = train_batches()
    save_tensors(
        ROOT / "lora" / "train_batches.safetensors",
        {
            f"step.{s}.micro.{m}.{key}": tensor
            for s, window in enumerate(batches)
            for m, batch in enumerate(window)
            for key, tensor in batch.items()
        },
    )
    save_json(ROOT / "lora" / "cases.json", [make_case(*case, batches) for case in CASES])


if __name__ == "__main__":
    make()
