"""Times torch's kernels for kernels.mjs: dense products, scaled_dot_product_attention, linear + cross_entropy.

Reads a JSON line per request from standard input and answers each with one. A request names a kernel as a
`KernelSubject` does (benchmarks/laboratory/kernels.ts), with `precision` and `rounds`; the answer has the least seconds of
each part by its name; of head and loss also the bytes that the step made resident, as transformers computes it and at
the least. Weights are dense and of the precision, fresh memory for every call. One thread is timed by the
CPU time of the process, several by the clock.

Where torch has more than one way, each is timed and the fastest answers: key-value heads shared by `enable_gqa` or
repeated, logits of bf16 as they are or widened to fp32 as transformers does.

    python benchmarks/peers/torch_kernels.py --threads 1

Not kernels.py: that name would hide the package `kernels` from bitsandbytes in the other programs of this folder.
"""

import argparse
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from peft_train import memory, reset_peak

SAMPLE_SECONDS = 4e-3  # as lowrank's own
WEIGHT_BYTES = 24 << 20

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, required=True)
threads = parser.parse_args().threads
torch.set_num_threads(threads)
torch.manual_seed(0)
now = time.process_time if threads == 1 else time.perf_counter


def best(call, rounds: int, prepare=lambda: None) -> float:
    """Least seconds of a call, in samples of some milliseconds; what `prepare` makes for a call is not timed."""

    def sample(calls: int) -> float:
        prepared = [prepare() for _ in range(calls)]
        start = now()
        for one in prepared:
            call(one)
        return (now() - start) / calls

    least = sample(1)
    calls = math.ceil(SAMPLE_SECONDS / max(least, 1e-6))
    return min(least, *(sample(calls) for _ in range(rounds)))


def linear(request: dict, dtype: torch.dtype, rounds: int) -> dict:
    tokens, out, inputs, rank = (request[key] for key in ("tokens", "out", "in", "rank"))
    count = max(1, min(64, math.ceil(WEIGHT_BYTES / (out * inputs * dtype.itemsize))))
    weights = [torch.rand(out, inputs, dtype=dtype) for _ in range(count)]
    turn = iter(range(1 << 62))
    x, dy = torch.rand(tokens, inputs, dtype=dtype), torch.rand(tokens, out, dtype=dtype)
    h, dh = torch.rand(tokens, rank, dtype=dtype), torch.rand(tokens, rank, dtype=dtype)
    fresh = lambda: weights[next(turn) % count]  # noqa: E731
    with torch.inference_mode():
        return {
            "forward": best(lambda w: F.linear(x, w), rounds, fresh),
            "input_gradient": best(lambda w: dy @ w, rounds, fresh),
            "adapter_gradient": best(lambda _: (dh.T @ x, dy.T @ h), rounds),
        }


def attention(request: dict, dtype: torch.dtype, rounds: int) -> dict:
    sequences, length, dim = (request[key] for key in ("sequences", "length", "headDim"))
    heads, kv_heads = request["heads"], request["kvHeads"]

    def operand(count: int) -> torch.Tensor:
        """[sequences, heads, length, dim], a view of rows of tokens, as models have them."""
        return torch.rand(sequences, length, count * dim, dtype=dtype).view(sequences, length, count, dim).transpose(1, 2)

    inputs = [operand(count).requires_grad_() for count in (heads, kv_heads, kv_heads)]
    dout = operand(heads)

    def shared(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def repeated(q, k, v):
        k, v = (one.repeat_interleave(heads // kv_heads, 1) for one in (k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def timed(attend) -> dict:
        forward = best(lambda _: attend(*inputs), rounds)
        backward = best(
            lambda out: torch.autograd.grad(out, inputs, dout), rounds, lambda: attend(*inputs)
        )
        return {"forward": forward, "backward": backward}

    return min((timed(attend) for attend in (shared, repeated)), key=lambda times: sum(times.values()))


def head_loss(request: dict, dtype: torch.dtype, rounds: int) -> dict:
    tokens, vocab, hidden = (request[key] for key in ("tokens", "vocab", "hidden"))
    weight = (torch.rand(vocab, hidden) - 0.5).to(dtype)
    x = (torch.rand(tokens, hidden) - 0.5).to(dtype).requires_grad_()
    labels = torch.randint(vocab, (tokens,))
    widenings = [lambda logits: logits] if dtype == torch.float32 else [lambda logits: logits, torch.Tensor.float]

    def step(widen, rows: int) -> None:
        loss = F.cross_entropy(widen(F.linear(x[:rows], weight)), labels[:rows])
        torch.autograd.grad(loss, x)

    def extra(widen) -> int:
        step(widen, 8)  # what is made once
        reset_peak()
        before = memory("VmRSS")
        step(widen, tokens)
        return memory("VmHWM") - before

    extras = [extra(widen) for widen in widenings]
    fastest = min(best(lambda _, widen=widen: step(widen, tokens), rounds) for widen in widenings)
    return {"forward_backward": fastest, "extra_bytes": extras[-1], "smallest_extra_bytes": min(extras)}


print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    work = {"linear": linear, "attention": attention, "head_loss": head_loss}[request["kind"]]
    dtype = torch.float32 if request["precision"] == "f32" else torch.bfloat16
    print(json.dumps(work(request, dtype, request["rounds"])), flush=True)
