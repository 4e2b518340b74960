"""Compiles the kernels below for sm_80 and writes their PTX beside this file: a check of the PTX interpreter that does not come
from the compilers and the reading of the manual that it was written with. Needs no GPU:

    pip install --no-deps triton==3.6.0
    python3 make.py
"""

import pathlib
import re

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def gemm(a_at, b_at, c_at, rows, cols, depth, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """c [rows, cols] = a [rows, depth] b [cols, depth]^T"""
    row = tl.program_id(0) * M + tl.arange(0, M)
    col = tl.program_id(1) * N + tl.arange(0, N)
    k = tl.arange(0, K)
    sums = tl.zeros((M, N), tl.float32)
    for start in range(0, depth, K):
        a = tl.load(a_at + row[:, None] * depth + (start + k)[None, :])
        b = tl.load(b_at + col[None, :] * depth + (start + k)[:, None])
        sums += tl.dot(a, b)
    tl.store(c_at + row[:, None] * cols + col[None, :], sums.to(c_at.dtype.element_ty))


@triton.jit
def gemm_transposed(a_at, b_at, c_at, rows, cols, depth, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    """c [rows, cols] = a [rows, depth] b [depth, cols]: b comes by ldmatrix.trans"""
    row = tl.program_id(0) * M + tl.arange(0, M)
    col = tl.program_id(1) * N + tl.arange(0, N)
    k = tl.arange(0, K)
    sums = tl.zeros((M, N), tl.float32)
    for start in range(0, depth, K):
        a = tl.load(a_at + row[:, None] * depth + (start + k)[None, :])
        b = tl.load(b_at + (start + k)[:, None] * cols + col[None, :])
        sums += tl.dot(a, b)
    tl.store(c_at + row[:, None] * cols + col[None, :], sums)


@triton.jit
def softmax(x_at, y_at, cols, N: tl.constexpr):
    """Rows of x and y [*, cols]; cols <= N"""
    col = tl.arange(0, N)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_at + at, mask=col < cols, other=-float("inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(y_at + at, e / tl.sum(e, 0), mask=col < cols)


@triton.jit
def attention(q_at, k_at, v_at, o_at, length, scale, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
    """Causal attention of one head: q, k, v, o [length, D] in bf16"""
    row = tl.program_id(0) * M + tl.arange(0, M)
    d = tl.arange(0, D)
    q = tl.load(q_at + row[:, None] * D + d[None, :], mask=row[:, None] < length, other=0.0)
    most = tl.full((M,), -float("inf"), tl.float32)
    total = tl.zeros((M,), tl.float32)
    sums = tl.zeros((M, D), tl.float32)
    for start in range(0, (tl.program_id(0) + 1) * M, N):
        key = start + tl.arange(0, N)
        inside = key[:, None] < length
        k = tl.load(k_at + key[:, None] * D + d[None, :], mask=inside, other=0.0)
        v = tl.load(v_at + key[:, None] * D + d[None, :], mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(k)) * scale
        scores = tl.where((key[None, :] <= row[:, None]) & (key[None, :] < length), scores, -float("inf"))
        next_most = tl.maximum(most, tl.max(scores, 1))
        p = tl.exp(scores - next_most[:, None])
        shrink = tl.exp(most - next_most)
        total = total * shrink + tl.sum(p, 1)
        sums = sums * shrink[:, None] + tl.dot(p.to(tl.bfloat16), v)
        most = next_most
    tl.store(o_at + row[:, None] * D + d[None, :], (sums / total[:, None]).to(tl.bfloat16), mask=row[:, None] < length)


HERE = pathlib.Path(__file__).parent


def make(name, function, signature, constants, aligned, warps, stages):
    """`aligned`: numbers of the arguments that are multiples of 16"""
    names = function.arg_names
    kinds = {word: kind for word, kind in zip(names, signature)} | {word: "constexpr" for word in constants}
    source = ASTSource(
        function,
        kinds,
        constexprs={(names.index(word),): value for word, value in constants.items()},
        attrs={(number,): [["tt.divisibility", 16]] for number in aligned},
    )
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": warps, "num_stages": stages})
    text = made.asm["ptx"]
    # Lines of this file and descriptions for debuggers say nothing to an interpreter, and paths are a machine's.
    text = re.sub(r"(?m)^\s*(\.loc|\.file)\b.*\n|\s*// \S+\.py:.*$", "", text)
    text = re.sub(r"(?s)\n\s*\.section.*", "\n", text)
    head = f"// Made by make.py: {warps} warps, {made.metadata.shared} bytes of dynamic shared memory.\n"
    (HERE / f"{name}.ptx").write_text(head + text)


tile = {"M": 64, "N": 64, "K": 32}
bf16, f32, i32 = "*bf16", "*fp32", "i32"
make("gemm_f32", gemm, [bf16, bf16, f32, i32, i32, i32], tile, [0, 1, 2, 4, 5], 4, 3)
make("gemm_bf16", gemm, [bf16, bf16, bf16, i32, i32, i32], tile, [0, 1, 2, 4, 5], 4, 2)
make("gemm_transposed", gemm_transposed, [bf16, bf16, f32, i32, i32, i32], tile, [0, 1, 2, 4, 5], 4, 3)
make("softmax", softmax, [f32, f32, i32], {"N": 1024}, [0, 1], 4, 1)
make("attention", attention, [bf16] * 4 + [i32, "fp32"], {"M": 64, "N": 32, "D": 64}, [0, 1, 2, 3], 4, 2)
