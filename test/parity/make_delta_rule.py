"""The gated delta rule of Qwen3.5 and its gradients in float64, of packed sequences, by transformers."""

import torch
from torch.nn.functional import softplus
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen

from common import ROOT, generator, save_tensors

# Key heads, heads, key dimension, value dimension, lengths of the sequences.
CASES = {
    "shared": (1, 2, 5, 3, [1, 63, 65]),
    "wide": (2, 2, 8, 20, [130, 2]),
    "grouped": (2, 6, 4, 17, [64, 7]),
}


class Double:
    """torch, in which float32 is float64: transformers computes in float32 whatever its inputs are."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def rule(x, beta, alpha, a_log, dt_bias, sizes, compute):
    key_heads, heads, key_dim, value_dim, lengths = sizes
    outputs = []
    for part, b, a in zip(x.split(lengths), beta.split(lengths), alpha.split(lengths)):
        q, k, v = part[None].split([key_heads * key_dim, key_heads * key_dim, heads * value_dim], dim=-1)
        q, k = (t.unflatten(-1, (key_heads, key_dim)) for t in (q, k))
        g = -a_log.exp() * softplus(a + dt_bias)
        out, _ = compute(q, k, v.unflatten(-1, (heads, value_dim)), g=g[None], beta=b[None].sigmoid(), use_qk_l2norm_in_kernel=True)
        outputs.append(out[0].flatten(1))
    return torch.cat(outputs)


def make() -> None:
    qwen.torch = Double()
    tensors = {}
    for name, sizes in CASES.items():
        key_heads, heads, key_dim, value_dim, lengths = sizes

        def normal(what: str, *shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator(f"delta_rule/{name}/{what}"))

        tokens = sum(lengths)
        inputs = {
            "x": normal("x", tokens, 2 * key_heads * key_dim + heads * value_dim),
            "beta": normal("beta", tokens, heads),
            "alpha": normal("alpha", tokens, heads) * 2,
            "a_log": normal("a_log", heads),
            "dt_bias": normal("dt_bias", heads) - 2,
        }
        dout = normal("dout", tokens, heads * value_dim)
        leaves = [value.double().requires_grad_() for value in inputs.values()]
        out = rule(*leaves, sizes, qwen.torch_recurrent_gated_delta_rule)
        chunked = rule(*leaves, sizes, qwen.torch_chunk_gated_delta_rule)
        assert (out - chunked).abs().max() < 1e-12
        gradients = torch.autograd.grad(out, leaves, dout.double())
        sizes_tensor = torch.tensor([key_heads, heads, key_dim, value_dim, *lengths], dtype=torch.int32)
        found = inputs | {"sizes": sizes_tensor, "dout": dout, "out": out.detach().float()}
        found |= {f"d{key}": value.float() for key, value in zip(inputs, gradients)}
        tensors |= {f"{name}.{key}": value for key, value in found.items()}
    save_tensors(ROOT / "numbers" / "delta_rule.safetensors", tensors)


if __name__ == "__main__":
    make()
