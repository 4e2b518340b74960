"""Shared by the golden makers: paths, seeded tensors, float64 models, packed batches, losses.

A packed batch is `input_ids` [T] with `cu_seqlens` [n + 1]; every sequence is run on its own here, so
that the result cannot depend on how a mask is built.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.models.gemma import modeling_gemma
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.granite import modeling_granite
from transformers.models.granitemoehybrid import modeling_granitemoehybrid
from transformers.models.lfm2 import modeling_lfm2
from transformers.models.llama import modeling_llama
from transformers.models.ministral3 import modeling_ministral3
from transformers.models.mistral import modeling_mistral
from transformers.models.olmo2 import modeling_olmo2
from transformers.models.olmo3 import modeling_olmo3
from transformers.models.phi3 import modeling_phi3
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.smollm3 import modeling_smollm3
from transformers.utils import logging

logging.disable_progress_bar()
ROOT = Path(__file__).resolve().parent
IGNORE = -100
# Of golden steps: ten of them decay a tensor by about 1 %, a thousand times the tolerance. An eps near the gradients keeps
# Adam from magnifying their rounding where they almost cancel, and makes clipping and eps count.
OPTIMIZER = {"lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-4, "weight_decay": 2.0, "max_grad_norm": 0.1}


def generator(name: str) -> torch.Generator:
    """A generator that depends on the name alone, so adding a tensor changes no other."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


COUNTER = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def drawn(name: str, shape, bound: float, offset: float = 0.0) -> torch.Tensor:
    """Uniform float32 numbers around `offset`, which drawn.ts draws by the same name (lib/core/counter-random.ts)."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & _MASK
    key = mix(np.array([COUNTER], dtype=np.uint64)) ^ np.uint64(key)
    count = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.uint64)
    uniform = (mix(count * np.uint64(COUNTER) + key) >> np.uint64(11)) * 2.0**-53
    return torch.from_numpy(((2 * uniform - 1) * bound + offset).astype(np.float32)).reshape(shape)


def _rms_norm_in_input_dtype(self, hidden_states):
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))


def _offset_norm_in_input_dtype(self, x):
    return self._norm(x) * (1 + self.weight)


class _KeepDouble(TorchFunctionMode):
    """Leaves float64 tensors as they are where a model converts to float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.Tensor.float, torch.Tensor.to) and args[0].dtype == torch.float64:
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            return args[0] if func is torch.Tensor.float else func(*args, **kwargs)
        return func(*args, **kwargs)


_delta_net = modeling_qwen3_5.Qwen3_5GatedDeltaNet.forward


def _delta_net_in_double(self, *args, **kwargs):
    with _KeepDouble():
        return _delta_net(self, *args, **kwargs)


def load_double(folder: Path, **options):
    """The model as float64. transformers' RMS norm drops to float32 whatever the model's dtype, which
    would leave rounding noise in the goldens; `check_norm_patch` shows that nothing else changes."""
    modeling_llama.LlamaRMSNorm.forward = _rms_norm_in_input_dtype
    modeling_mistral.MistralRMSNorm.forward = _rms_norm_in_input_dtype
    modeling_qwen2.Qwen2RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_qwen3.Qwen3RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_granite.GraniteRMSNorm.forward = _rms_norm_in_input_dtype
    modeling_granitemoehybrid.GraniteMoeHybridRMSNorm.forward = _rms_norm_in_input_dtype
    modeling_smollm3.SmolLM3RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_olmo2.Olmo2RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_olmo3.Olmo3RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_gemma.GemmaRMSNorm.forward = _offset_norm_in_input_dtype
    modeling_gemma3.Gemma3RMSNorm.forward = _offset_norm_in_input_dtype
    modeling_ministral3.Ministral3RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_phi3.Phi3RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_lfm2.Lfm2RMSNorm.forward = _rms_norm_in_input_dtype
    modeling_qwen3_5.Qwen3_5RMSNorm.forward = _offset_norm_in_input_dtype
    modeling_qwen3_5.Qwen3_5GatedDeltaNet.forward = _delta_net_in_double
    options = {"attn_implementation": "sdpa", **options}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model.double().eval()


def make_batch(name: str, lengths: list[int], vocab: int, prompt: int) -> dict[str, torch.Tensor]:
    """Random ids. The first `prompt` tokens of every sequence and one later token of the longer ones
    are not supervised."""
    rng = generator(name)
    total = sum(lengths)
    input_ids = torch.randint(0, vocab, (total,), generator=rng, dtype=torch.int32)
    labels = input_ids.clone()
    targets = torch.full_like(labels, IGNORE)
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    for begin, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist()):
        labels[begin : begin + prompt] = IGNORE
        if end - begin > prompt + 4:
            labels[begin + prompt + 2] = IGNORE
        targets[begin : end - 1] = labels[begin + 1 : end]
    return {"input_ids": input_ids, "cu_seqlens": cu_seqlens, "labels": labels, "targets": targets}


def forward(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits [T, vocab]."""
    ids, bounds = batch["input_ids"].long(), batch["cu_seqlens"].tolist()
    parts = [model(ids[begin:end][None], use_cache=False).logits[0] for begin, end in zip(bounds, bounds[1:])]
    return torch.cat(parts)


def loss_sum(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(
        logits, batch["targets"].long(), ignore_index=IGNORE, reduction="sum"
    )


def loss_count(batch: dict[str, torch.Tensor]) -> int:
    return int((batch["targets"] != IGNORE).sum())


def adapter_tensors(model, prefix: str, grad: bool = False) -> dict[str, torch.Tensor]:
    """LoRA tensors or their gradients under PEFT's names in the adapter file."""
    if grad:
        state = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
        state = {key.replace(".default", ""): value for key, value in state.items()}
        if state.keys() != get_peft_model_state_dict(model).keys():
            raise SystemExit("trained parameters and saved tensors have different names")
    else:
        state = get_peft_model_state_dict(model)
    return {f"{prefix}.{key}": value.detach().float() for key, value in state.items()}


def trained(model) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path)


def save_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")
