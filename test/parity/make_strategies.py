"""Strategies through PEFT in float64: loss, gradient of every trained tensor, ten steps (or 30) of the strategy's optimizer."""

import shutil
from functools import partial
from types import MethodType

import bitsandbytes.functional as bnb
import peft.optimizers.lorafa as lorafa
import torch
from peft import AdaLoraConfig, HiraConfig, LoHaConfig, LoKrConfig, LoraConfig, MissConfig, OFTConfig, PeftModel, VeraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from peft.tuners.lora import LoraLayer
from peft.utils.loftq_utils import _low_rank_decomposition

import nf4_reference
from common import (
    OPTIMIZER,
    ROOT,
    adapter_tensors,
    forward,
    generator,
    load_double,
    loss_count,
    loss_sum,
    save_json,
    save_tensors,
    trained,
)
from make_lora import ATTENTION, MLP, adamw, train, train_batches
from make_models import batch_of

# PEFT multiplies the projected gradient in bfloat16 where the machine has it.
lorafa.is_bf16_available = lambda: False


def in_double(factorize):
    """PEFT factorizes in float32, whose singular vectors are up to 2e-5 from those of the weight."""
    return lambda weight, **options: [part.float() for part in factorize(weight.double(), **options)]


torch.linalg.svd = in_double(torch.linalg.svd)
torch.linalg.qr = in_double(torch.linalg.qr)

_all = {"target_modules": ATTENTION + MLP}
# Linears that share their input with others.
_some = {"target_modules": ["k_proj", "up_proj", "down_proj"]}
_lora = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION + MLP}


class lora_fa:
    """PEFT's optimizer of LoRA-FA with the eps and decay of torch's AdamW.

    Its own adds eps to the root of the moment before the bias is taken out, and decays after the update.
    """

    def __init__(self, model):
        self.inner = create_lorafa_optimizer(
            model, r=_lora["r"], lora_alpha=_lora["lora_alpha"], lr=OPTIMIZER["lr"], weight_decay=0.0
        )
        self.param_groups, self.zero_grad, self.step_index = self.inner.param_groups, self.inner.zero_grad, 0
        self.decayed = [parameter for key, parameter in model.named_parameters() if "lora_B" in key]

    @torch.no_grad()
    def step(self):
        self.step_index += 1
        for group in self.param_groups:
            b2 = OPTIMIZER["betas"][1]
            group |= {"betas": OPTIMIZER["betas"], "eps": OPTIMIZER["eps"] * (1 - b2**self.step_index) ** 0.5}
        for parameter in self.decayed:
            parameter.mul_(1 - self.param_groups[0]["lr"] * OPTIMIZER["weight_decay"])
        self.inner.step()


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


class MaskedAdamW:
    """DyLoRA, from its paper: AdamW on the ranks that got gradients, each with moments and a count of its own.

    Ranks are drawn beforehand (`RANKS`), so that another implementation can take the same.
    """

    def __init__(self, layers, trained_ranks: str):
        self.layers, self.last, self.step_index = layers, trained_ranks == "last", 0
        self.state = {}
        self.param_groups = [{"lr": OPTIMIZER["lr"]}]

    def zero_grad(self):
        for layer in self.layers:
            layer.active = min(RANKS[self.step_index], layer.r["default"])
            for parameter in (layer.lora_A.default.weight, layer.lora_B.default.weight):
                parameter.grad = None

    @torch.no_grad()
    def step(self):
        self.step_index += 1
        (b1, b2), eps, decay = (OPTIMIZER[key] for key in ("betas", "eps", "weight_decay"))
        lr = self.param_groups[0]["lr"]
        for layer in self.layers:
            for j in range(layer.active - 1 if self.last else 0, layer.active):
                m_a, v_a, m_b, v_b, count = self.state.get((layer, j), (0, 0, 0, 0, 0))
                a, b = layer.lora_A.default.weight, layer.lora_B.default.weight
                rank = [] if a.grad is None else [(a[j], a.grad[j], m_a, v_a)]
                rank += [(b[:, j], b.grad[:, j], m_b, v_b)]
                count += 1
                moments = []
                for value, grad, m, v in rank:
                    m = b1 * m + (1 - b1) * grad
                    v = b2 * v + (1 - b2) * grad**2
                    value.mul_(1 - lr * decay)
                    value.sub_(lr * (m / (1 - b1**count)) / ((v / (1 - b2**count)).sqrt() + eps))
                    moments += [m, v]
                self.state[layer, j] = (*([0, 0] if a.grad is None else []), *moments, count)


class DenseAdamW(torch.optim.AdamW):
    """DyLoRA as the authors' code trains it: ranks without a gradient have one of zeros, and go on moving."""

    def __init__(self, layers, trained_ranks: str):
        self.layers, self.step_index = layers, 0
        parameters = [p for layer in layers for p in (layer.lora_A.default.weight, layer.lora_B.default.weight)]
        settings = {key: value for key, value in OPTIMIZER.items() if key != "max_grad_norm"}
        super().__init__(parameters, **settings, foreach=False)

    def zero_grad(self):
        for layer in self.layers:
            layer.active = min(RANKS[self.step_index], layer.r["default"])
        super().zero_grad(set_to_none=False)

    def step(self):
        self.step_index += 1
        super().step()


# Ranks that lowrank draws from the seed 41.
RANKS = [2, 4, 3, 3, 2, 1, 1, 2, 4, 1]
# Without a warm-up, whose first step would move nothing: some rules hold from the first step on.
SCHEDULE = {"type": "linear", "warmup_steps": 0}


def dylora(trained_ranks: str, optimizer, frozen: bool):
    """Replaces the forward pass of PEFT's layers by the paper's at rank b, alpha / b (or alpha / sqrt(b)) being the scale."""

    def forward(self, x):
        b = self.active
        a, bb = self.lora_A.default.weight[:b], self.lora_B.default.weight[:, :b]
        if trained_ranks == "last":
            a = torch.cat([a[:-1].detach(), a[-1:]])
            bb = torch.cat([bb[:, :-1].detach(), bb[:, -1:]], dim=1)
        scale = self.lora_alpha["default"] / (b**0.5 if self.use_rslora["default"] else b)
        return self.base_layer(x) + scale * (x @ a.T) @ bb.T

    def prepare(model):
        if frozen:
            freeze(model)
        layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
        for layer in layers:
            layer.active = min(RANKS[0], layer.r["default"])
            layer.forward = MethodType(forward, layer)
        return optimizer(layers, trained_ranks)

    return prepare

def dora(model):
    """AdamW that leaves the magnitudes undecayed."""
    named = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    lengths = [parameter for key, parameter in named if "magnitude" in key]
    rest = [parameter for key, parameter in named if "magnitude" not in key]
    groups = [
        {"params": rest, "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": lengths, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=OPTIMIZER["lr"], betas=tuple(OPTIMIZER["betas"]), eps=OPTIMIZER["eps"])


class FrozenDora:
    """LoRA-FA's step of DoRA, from the papers: A stays, B's gradient is projected by it, the magnitudes train too.

    PEFT's own optimizer of LoRA-FA takes the magnitudes for a factor and stops.
    """

    def __init__(self, model):
        freeze(model)
        self.inner = dora(model)
        self.param_groups = self.inner.param_groups
        self.layers = [module for module in model.modules() if isinstance(module, LoraLayer)]

    def zero_grad(self):
        self.inner.zero_grad()

    @torch.no_grad()
    def step(self):
        for layer in self.layers:
            a, b = layer.lora_A.default.weight, layer.lora_B.default.weight
            gram = a @ a.T + 1e-8 * torch.eye(len(a), dtype=a.dtype)
            b.grad = torch.linalg.solve(gram, b.grad.T).T / layer.scaling["default"] ** 2
        self.inner.step()


def freeze(model):
    """A as it was drawn."""
    for key, parameter in model.named_parameters():
        if "lora_A" in key:
            parameter.requires_grad_(False)


def undecayed_vectors(model):
    """AdamW as transformers' trainer has it: norms and biases do not decay."""
    parameters = trained(model)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=OPTIMIZER["lr"], betas=tuple(OPTIMIZER["betas"]), eps=OPTIMIZER["eps"])


_patterns = {"rank_pattern": {"k_proj": 2, r"layers\.1\..*down_proj": 6}, "use_rslora": True}

class adalora:
    """AdamW with PEFT's regularizer and allocator around its steps, counted from 0."""

    def __init__(self, model):
        self.model, self.inner, self.step_index = model, adamw(model), 0
        self.param_groups = self.inner.param_groups

    def zero_grad(self):
        self.inner.zero_grad()
        # PEFT's forward adds it to the loss; once a step, whatever the number of micro-batches.
        probe = {"input_ids": torch.tensor([[1, 2]]), "labels": torch.tensor([[1, 2]])}
        tuner = self.model.base_model
        (tuner(**probe).loss - tuner.model(**probe).loss).backward()

    def step(self):
        self.inner.step()
        self.model.base_model.update_and_allocate(self.step_index)
        self.step_index += 1


_adalora = {
    "init_r": 4,
    "target_r": 1,
    "tinit": 1,
    "tfinal": 2,
    "orth_reg_weight": 0.3,
    "lora_alpha": 16,
    "target_modules": ATTENTION + MLP,
}


class MovingAdamW(torch.optim.AdamW):
    """Delta-LoRA, from its paper: after the update of step t > K, W moves by lambda s times what B A moved by."""

    def __init__(self, model, ratio: float, start: int):
        settings = {key: value for key, value in OPTIMIZER.items() if key != "max_grad_norm"}
        super().__init__(trained(model), **settings, foreach=False)
        self.layers = {key: module for key, module in model.named_modules() if isinstance(module, LoraLayer)}
        self.ratio, self.start, self.t = ratio, start, 0
        self.weights = {key: layer.base_layer.weight.detach().clone() for key, layer in self.layers.items()}
        self.snapshot = self.factors() if start == -1 else None

    def factors(self):
        return {
            f"{key}.lora_{part}.weight": getattr(layer, f"lora_{part}").default.weight.detach().clone()
            for key, layer in self.layers.items()
            for part in "AB"
        }

    def products(self):
        return {
            key: layer.lora_B.default.weight.detach() @ layer.lora_A.default.weight.detach()
            for key, layer in self.layers.items()
        }

    @torch.no_grad()
    def step(self):
        before = self.products()
        super().step()
        if self.t > self.start:
            for key, product in self.products().items():
                layer = self.layers[key]
                layer.base_layer.weight.add_(self.ratio * layer.scaling["default"] * (product - before[key]))
        if self.t == self.start:
            self.snapshot = self.factors()
        self.t += 1

    def check_sum(self):
        """W is what the sum over all steps says, and its change has rank 2 r at most."""
        for key, product in self.products().items():
            layer, rank = self.layers[key], self.layers[key].r["default"]
            taken = self.snapshot[f"{key}.lora_B.weight"] @ self.snapshot[f"{key}.lora_A.weight"]
            scale = layer.scaling["default"]
            summed = self.weights[key] + self.ratio * scale * (product - taken)
            moved = layer.base_layer.weight.detach()
            error = ((moved - summed).norm() / (moved - self.weights[key]).norm()).item()
            change = moved + scale * product - self.weights[key]
            if error > 1e-12 or torch.linalg.matrix_rank(change, rtol=1e-10).item() > 2 * rank:
                raise SystemExit(f"{key}: the weight is {error:.1e} from the sum of its steps, or of too high a rank")


# name, model, strategy as config files spell it, PEFT configuration, optimizer, its settings
CASES = [
    (
        "lora_fa",
        "llama3",
        {"name": "lora-fa", **_lora, "rank_pattern": {"v_proj": 2}, "use_rslora": True},
        LoraConfig(**_lora, rank_pattern={"v_proj": 2}, use_rslora=True),
        lora_fa,
        OPTIMIZER,
    ),
    (
        "lora_plus",
        "smollm2",
        {"name": "lora-plus", "loraplus_lr_ratio": 16, "adapter": {"name": "lora", **_lora}},
        LoraConfig(**_lora),
        lora_plus,
        OPTIMIZER,
    ),
    *[
        (
            name,
            "llama3",
            {"name": "dylora", **_lora, "rank_pattern": {"v_proj": 2}, "trained_ranks": trained_ranks, **rest},
            LoraConfig(**_lora, rank_pattern={"v_proj": 2}, use_rslora=rest.get("use_rslora", False)),
            dylora(trained_ranks, optimizer, rest.get("freeze_a", False)),
            OPTIMIZER,
        )
        for name, trained_ranks, optimizer, rest in [
            ("dylora_last", "last", MaskedAdamW, {}),
            ("dylora_active", "active", MaskedAdamW, {"use_rslora": True}),
            ("dylora_dense", "last", DenseAdamW, {"masked_update": False}),
            ("dylora_frozen", "active", MaskedAdamW, {"freeze_a": True}),
        ]
    ],
    *[
        (
            f"delta_lora_{name}",
            base,
            {"name": "delta-lora", **_lora, **rest, "lambda": ratio, "start_step": start},
            LoraConfig(**_lora, **rest),
            partial(MovingAdamW, ratio=ratio, start=start),
            OPTIMIZER,
        )
        for name, base, ratio, start, rest in [
            ("at_once", "llama3", 8.0, -1, {}),
            ("next", "smollm2", 4.0, 0, {"use_rslora": True}),
            ("later", "llama3", 20.0, 2, {"rank_pattern": {"v_proj": 2}}),
        ]
    ],
    *[
        (
            f"lora_{name}",
            base,
            {"name": "lora", "r": 4, "lora_alpha": 8, **rest},
            LoraConfig(r=4, lora_alpha=8, **rest, ensure_weight_tying=name == "modules_tied"),
            undecayed_vectors,
            OPTIMIZER,
        )
        for name, base, rest in [
            ("embedding", "llama3", {"target_modules": [*ATTENTION, "embed_tokens"], "rank_pattern": {"embed_tokens": 3}}),
            ("embedding_tied", "smollm2", {"target_modules": ["embed_tokens"], "use_rslora": True}),
            ("modules", "llama3", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens", "norm"]}),
            ("modules_tied", "smollm2", {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["embed_tokens"]}),
            ("bias_all", "qwen2", {"target_modules": ["q_proj", "up_proj"], "bias": "all"}),
            (
                "bias_adapted",
                "qwen2_window",
                {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only", "modules_to_save": ["1.self_attn", "model.norm"]},
            ),
        ]
    ],
    (
        "adalora",
        "llama3",
        {"name": "adalora", **_adalora, "delta_t": 2},
        AdaLoraConfig(**_adalora, deltaT=2, total_step=10),
        adalora,
        OPTIMIZER,
    ),
    (
        "adalora_long",
        "smollm2",
        {"name": "adalora", **_adalora, "tinit": 3, "tfinal": 6, "delta_t": 3},
        AdaLoraConfig(**{**_adalora, "tinit": 3, "tfinal": 6}, deltaT=3, total_step=30),
        adalora,
        OPTIMIZER,
    ),
    (
        "vera",
        "llama3",
        {"name": "vera", "r": 24, "projection_prng_key": 7, **_all},
        VeraConfig(r=24, projection_prng_key=7, **_all),
        adamw,
        OPTIMIZER,
    ),
    (
        "miss",
        "llama3",
        {"name": "miss", "r": 6, **_all},
        MissConfig(r=6, **_all),
        adamw,
        OPTIMIZER,
    ),
    (
        "miss_padded",
        "odd",
        {"name": "miss", "r": 7, "target_modules": ["q_proj", "down_proj"]},
        MissConfig(r=7, target_modules=["q_proj", "down_proj"]),
        adamw,
        OPTIMIZER,
    ),
    (
        "oft",
        "llama3",
        {"name": "oft", "oft_block_size": 8, **_all},
        OFTConfig(oft_block_size=8, **_all),
        adamw,
        OPTIMIZER,
    ),
    (
        "oft_share",
        "odd",
        {"name": "oft", "oft_block_size": 4, "block_share": True, "num_cayley_neumann_terms": 3, **_some},
        OFTConfig(oft_block_size=4, block_share=True, num_cayley_neumann_terms=3, **_some),
        adamw,
        OPTIMIZER,
    ),
    (
        "hira",
        "llama3",
        {"name": "hira", "r": 3, **_all},
        HiraConfig(r=3, **_all),
        adamw,
        OPTIMIZER,
    ),
    (
        "hira_odd",
        "odd",
        {"name": "hira", "r": 5, **_some},
        HiraConfig(r=5, **_some),
        adamw,
        OPTIMIZER,
    ),
    (
        "loha",
        "llama3",
        {"name": "loha", "r": 3, "alpha": 6, **_all, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"up_proj": 4}},
        LoHaConfig(r=3, alpha=6, **_all, rank_pattern={"v_proj": 2}, alpha_pattern={"up_proj": 4}),
        adamw,
        OPTIMIZER,
    ),
    (
        "loha_high",
        "odd",
        {"name": "loha", "r": 16, "alpha": 8, "target_modules": ["k_proj", "down_proj"]},
        LoHaConfig(r=16, alpha=8, target_modules=["k_proj", "down_proj"]),
        adamw,
        OPTIMIZER,
    ),
    (
        "dora",
        "smollm2",
        {"name": "dora", **_lora},
        LoraConfig(**_lora, use_dora=True),
        dora,
        OPTIMIZER,
    ),
    (
        "dora_frozen",
        "llama3",
        {"name": "dora", **_lora, "rank_pattern": {"v_proj": 2}, "freeze_a": True},
        LoraConfig(**_lora, rank_pattern={"v_proj": 2}, use_dora=True),
        FrozenDora,
        OPTIMIZER,
    ),
    (
        "dora_modules",
        "llama3",
        {"name": "dora", **_lora, "modules_to_save": ["lm_head"]},
        LoraConfig(**_lora, use_dora=True, modules_to_save=["lm_head"]),
        dora,
        OPTIMIZER,
    ),
    (
        "dora_patterns",
        "qwen2",
        {"name": "dora", **_lora, **_patterns},
        LoraConfig(**_lora, **_patterns, use_dora=True),
        dora,
        OPTIMIZER,
    ),
    (
        "lokr",
        "llama3",
        {"name": "lokr", "r": 2, "alpha": 4, **_all, "rank_pattern": {"v_proj": 8}, "alpha_pattern": {"up_proj": 3}},
        LoKrConfig(r=2, alpha=4, **_all, rank_pattern={"v_proj": 8}, alpha_pattern={"up_proj": 3}),
        adamw,
        OPTIMIZER,
    ),
    (
        "lokr_both",
        "odd",
        {"name": "lokr", "r": 2, "alpha": 2, "decompose_both": True, "decompose_factor": 7, **_all},
        LoKrConfig(r=2, alpha=2, decompose_both=True, decompose_factor=7, **_all),
        adamw,
        OPTIMIZER,
    ),
    (
        "lokr_unsorted",
        "odd",
        {"name": "lokr", "r": 3, "alpha": 2, "decompose_factor": 12, **_all},
        LoKrConfig(r=3, alpha=2, decompose_factor=12, **_all),
        adamw,
        OPTIMIZER,
    ),
    *[
        (
            name,
            base,
            {"name": "lora", **_lora, **rest, "init_lora_weights": start},
            LoraConfig(**_lora, **rest, init_lora_weights=start),
            adamw,
            OPTIMIZER,
        )
        for name, base, start, rest in [
            ("pissa", "llama3", "pissa", {"rank_pattern": {"v_proj": 2}, "use_rslora": True}),
            ("olora", "odd", "olora", {"rank_pattern": {"v_proj": 2}}),
        ]
    ],
]


# Away from zero where a strategy starts at zero: the deviation of what is drawn instead.
STARTS = {"lora_B": 0.1, "lora_embedding_A": 0.1, "lora_E": 0.5, "vera_lambda_b": 0.3, "hada_w2_b": 0.1, "lokr_w1": 0.3, "miss_block": 0.1, "oft_R": 0.1, "hira_B": 0.5}
# Shares by which what starts at a value of its own is moved from there.
MOVES = {"magnitude_vector": 0.2, "modules_to_save": 0.2, "bias": 0.2}


def attach(model, name: str, peft):
    """PEFT's model with float64 factors whose values are float32 numbers.

    What starts at zero or at random is moved from there; a start that belongs to the base, which PEFT has changed to fit
    it, is left as it is.
    """
    computed = getattr(peft, "init_lora_weights", True) in ("pissa", "olora")
    peft.task_type = "CAUSAL_LM"
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator(f"strategies/{name}"))))
        # PEFT factorizes weights of at most 32 bits.
        model = get_peft_model(model.float() if computed else model, peft)
    for key, value in model.named_parameters():
        if "ranknum" in key:
            # PEFT 0.21 leaves it trainable, so that its optimizer moves the scale, and does not save it.
            value.requires_grad_(False)
    drawn = {key: value.float() for key, value in model.named_parameters() if value.requires_grad}
    drawn |= {key: value.float() for key, value in model.named_buffers() if "vera_" in key}
    model = model.double()
    with torch.no_grad():
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            if key not in drawn:
                continue
            std = 0 if computed else next((std for part, std in STARTS.items() if part in key), 0)
            noise = torch.randn(value.shape, generator=generator(f"{name}/{key}")) * std if std else 0
            value.copy_((noise if std else drawn[key]) + torch.zeros_like(drawn[key]))
            for part, share in MOVES.items():
                if part in key:
                    move = torch.randn(value.shape, generator=generator(f"{name}/{key}")) * share
                    value.copy_(drawn[key] * (1 + move))
    return model


def saved_name(key: str) -> str:
    """A parameter's name in PEFT's file."""
    key = key.replace(".modules_to_save.default", "").replace(".default", "")
    return key.replace("magnitude_vector.weight", "magnitude_vector")


def gradients(model) -> dict[str, torch.Tensor]:
    return {
        f"grad.{saved_name(key)}": parameter.grad.float()
        for key, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def make_case(name: str, base: str, strategy: dict, peft, optimizer_of, settings: dict, batches) -> dict:
    model = attach(load_double(ROOT / "models" / base), name, peft)
    optimizer = optimizer_of(model)
    tensors = adapter_tensors(model, "init")
    batch = batch_of(base)
    loss = loss_sum(forward(model, batch), batch) / loss_count(batch)
    loss.backward()
    tensors |= gradients(model)
    steps = getattr(peft, "total_step", None) or len(batches)
    losses, norms = train(model, [batches[step % len(batches)] for step in range(steps)], optimizer, SCHEDULE)
    if isinstance(peft, AdaLoraConfig):
        model.peft_config["default"].rank_pattern = None  # which would slice them
    tensors |= adapter_tensors(model, "final")
    late = {}
    if isinstance(optimizer, MovingAdamW):
        # Once more with the weights moved: before the first step they are those of LoRA.
        optimizer.check_sum()
        tensors |= {f"snapshot.{key}": value.float() for key, value in optimizer.snapshot.items()}
        optimizer.zero_grad()
        late_loss = loss_sum(forward(model, batch), batch) / loss_count(batch)
        late_loss.backward()
        tensors |= {f"late.{key}": value for key, value in gradients(model).items()}
        late = {"late_loss": late_loss.item()}
    save_tensors(ROOT / "strategies" / f"{name}.safetensors", tensors)
    print(f"  {name}: loss {loss.item():.6f}, {losses[0]:.4f} -> {losses[-1]:.4f}")
    return {
        "name": name,
        "model": base,
        "strategy": strategy,
        "loss": loss.item(),
        "optimizer": settings,
        "schedule": SCHEDULE,
        "losses": losses,
        "grad_norms": norms,
        **({"ranks": RANKS} if strategy["name"] == "dylora" else {}),
        **late,
    }


def make_folder(name: str, base: str, peft) -> None:
    """A folder as PEFT's save_pretrained writes it, and the logits of the base with it."""
    model = attach(load_double(f"models/{base}"), f"folder/{name}", peft)
    if isinstance(peft, AdaLoraConfig):
        # As at the end of a run: some ranks gone, and one module with none left.
        adapted = [key for key, value in model.named_modules() if hasattr(value, "lora_E") and len(value.lora_E)]
        kept = {key: [(3 * i + j) % 4 > 0 and i > 0 for j in range(peft.init_r)] for i, key in enumerate(adapted)}
        pattern = {f"{key.removeprefix('base_model.model.')}.lora_E.default": ranks for key, ranks in kept.items()}
        model.peft_config["default"].rank_pattern = pattern
    folder = ROOT / "strategies" / name
    shutil.rmtree(folder, ignore_errors=True)
    model.float().save_pretrained(folder)
    (folder / "README.md").unlink()
    read = PeftModel.from_pretrained(load_double(f"models/{base}"), folder).double().eval()
    with torch.no_grad():
        logits = forward(read, batch_of(base))
    save_tensors(ROOT / "strategies" / f"{name}.logits.safetensors", {"logits": logits.float()})
    print(f"  {name}/")


def make_loftq(base: str, rank: int) -> None:
    """What PEFT's LoftQ starts from, one iteration over NF4, at every linear.

    `loftq_init` itself asks for a GPU; these are its two steps. It does not divide by the scale, so alpha is the rank.
    """
    tensors = {}
    for name, module in load_double(ROOT / "models" / base).model.layers.named_modules(prefix="model.layers"):
        if not isinstance(module, torch.nn.Linear):
            continue
        weight = module.weight.detach().float()
        packed, state = bnb.quantize_4bit(weight, blocksize=nf4_reference.BLOCK, quant_type="nf4")
        held = nf4_reference.dequantize(packed.reshape(-1), state.absmax, weight.shape, torch.float32)
        factors = _low_rank_decomposition(weight.double() - held.double(), reduced_rank=rank)
        tensors[f"{name}.lora_A.weight"] = factors["R"].float()
        tensors[f"{name}.lora_B.weight"] = factors["L"].float()
    save_tensors(ROOT / "strategies" / "loftq.safetensors", tensors)
    print("  loftq")


# name, model, PEFT configuration
FOLDERS = [
    ("vera_saved", "odd", VeraConfig(r=5, projection_prng_key=1, d_initial=0.2, target_modules=["v_proj", "up_proj"])),
    (
        "dora_saved",
        "qwen2",
        LoraConfig(r=3, lora_alpha=6, lora_dropout=0.1, use_dora=True, target_modules=["q_proj", "o_proj", "down_proj"]),
    ),
    (
        "adalora_saved",
        "odd",
        AdaLoraConfig(init_r=6, target_r=3, lora_alpha=5, total_step=10, tinit=1, tfinal=2, target_modules=["v_proj", "up_proj"]),
    ),
    ("vera_drawn", "odd", VeraConfig(r=5, projection_prng_key=1, save_projection=False, target_modules=["v_proj", "up_proj"])),
    ("lokr_saved", "odd", LoKrConfig(r=3, alpha=2, decompose_both=True, rank_pattern={"v_proj": 6}, target_modules=["v_proj", "up_proj"])),
    (
        "trained_saved",
        "qwen2_window",
        LoraConfig(
            r=3,
            lora_alpha=6,
            target_modules=["q_proj", "embed_tokens"],
            modules_to_save=["lm_head", "v_proj", "input_layernorm"],
            bias="all",
        ),
    ),
    (
        "tied_saved",
        "smollm2",
        LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj"], modules_to_save=["lm_head"], ensure_weight_tying=True),
    ),
    ("embedding_saved", "half", LoraConfig(r=3, lora_alpha=6, target_modules=["v_proj", "embed_tokens"])),
    ("miss_saved", "odd", MissConfig(r=5, target_modules=["v_proj", "up_proj"])),
    ("oft_saved", "odd", OFTConfig(oft_block_size=8, target_modules=["v_proj", "up_proj"])),
    # PEFT gives every linear rank r, whatever rank_pattern says.
    ("hira_saved", "odd", HiraConfig(r=3, rank_pattern={"v_proj": 2}, target_modules=["v_proj", "up_proj"])),
    ("loha_saved", "odd", LoHaConfig(r=3, alpha=2, rank_pattern={"v_proj": 2}, target_modules=["v_proj", "up_proj"])),
]


def make() -> None:
    for folder in FOLDERS:
        make_folder(*folder)
    make_loftq("odd", 4)
    batches = train_batches()
    save_json(ROOT / "strategies" / "cases.json", [make_case(*case, batches) for case in CASES])


if __name__ == "__main__":
    make()
