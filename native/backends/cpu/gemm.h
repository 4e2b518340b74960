// Matrix products of the CPU backend. One product sums over several segments, so that an adapter's low-rank part, or
// the gradients of several projections of the same input, are further columns of one reduction and never pass through
// memory.
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/pool.h"
#include "core/precision.h"
#include "quant/weight.h"

namespace lowrank::cpu {

using lowrank::Precision;

/// Activations: row-major [M, K], `ld` elements from row to row; f32 or bf16.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t ld = 0;
};

struct Segment {
  Operand x;
  WeightView w;
};

struct Output {
  void* data = nullptr;  // [M, N] row-major, f32 or bf16
  DType dtype = DType::f32;
  int64_t ld = 0;
  const float* bias = nullptr;      // [N], added to every row
  const float* residual = nullptr;  // [M, N] f32 with residual_ld, added; may be the output itself
  int64_t residual_ld = 0;
};

/// Two products of few ranks, b a and b2 a2, both [rows, cols], whose Hadamard product is meant; all factors fp32 and
/// dense.
struct PairFactors {
  int64_t rows = 0, cols = 0, rank = 0, rank2 = 0;
  const float *b = nullptr, *a = nullptr;    // [rows, rank], [rank, cols]
  const float *b2 = nullptr, *a2 = nullptr;  // [rows, rank2], [rank2, cols]
};

struct GemmKernels {
  /// y[M, N] = sum over segments of x[M, K_s] w[N, K_s]^T (+ bias) (+ residual). Every w has N rows.
  void (*gemm_nt)(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments,
                  const Output& y, std::byte* workspace);
  /// y[M, N] = sum over segments of x[M, R_s] w[R_s, N] (+ bias) (+ residual). Every w has N columns.
  void (*gemm_nn)(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments,
                  const Output& y, std::byte* workspace);
  /// out[R, N] (f32) += scale * sum over t < T of u[t, r] * x[t, n]. With `transposed` the result is stored as [N, R].
  /// The gradients of low-rank factors: dA = (G B)^T x, dB = G^T h. Sums over t run in a fixed order.
  void (*reduce_tokens)(Pool& pool, Precision precision, int64_t tokens, const Operand& u, int64_t r, const Operand& x,
                        int64_t n, float scale, float* out, int64_t out_ld, bool transposed, std::byte* workspace);
  /// out[o, i] = w[o, i] + scale * gains[o] * (b a)[o, i] * (b2 a2)[o, i], dense fp32; w null is 0, gains null 1.
  void (*add_pair)(Pool& pool, const PairFactors&, const WeightView* w, float scale, const float* gains, float* out);
  /// The gradients at the two products of a pair from that at their Hadamard product, g [rows, cols]: that of b a,
  /// gains[o] g . (b2 a2), takes the place of g, and that of b2 a2, gains[o] g . (b a), is left in `second`; gains null
  /// is 1.
  void (*split_pair)(Pool& pool, const PairFactors&, const float* gains, float* g, float* second);
};

/// Upper bound of the bytes a product may use of `workspace` (64-byte aligned), known from shapes alone, so that the
/// plan can place it. `reductions` are the lengths K_s (or R_s) of the segments. Monotone in m.
int64_t gemm_workspace(Precision precision, int64_t m, int64_t n, std::span<const int64_t> reductions, int threads);
int64_t reduce_tokens_workspace(int64_t tokens, int64_t r, int64_t n, int threads);

}  // namespace lowrank::cpu
