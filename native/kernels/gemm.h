// Matrix products. One product sums over several segments, so that an adapter's low-rank part, or the gradients of
// several projections of the same input, are further columns of one reduction and never pass through memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/precision.h"
#include "kernels/operands.h"

namespace lowrank {

struct Segment {
  Matrix x;
  Factor w;
};

/// Destination of a product. `bias` [N] is added to every row, and `residual` [M, N] f32, which may be the output.
struct Output {
  Matrix y;
  Ptr<float> bias = {}, residual = {};
  int64_t residual_ld = 0;
};

/// y[m, n] = sum over segments of x[m, k] w[n, k]^T (+ bias) (+ residual). Every w has n rows.
struct GemmNt {
  static constexpr const char* kName = "gemm_nt";
  static constexpr bool kNeedsRoom = true;
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
  double multiply_adds() const {
    double sum = 0;
    for (const Segment& s : segments) sum += product_adds(m, n, s.w.cols);
    return sum;
  }
};
/// Products of the same rows of x, whose outputs may lie beside each other.
struct GroupedGemmNt {
  static constexpr const char* kName = "grouped_gemm_nt";
  static constexpr bool kNeedsRoom = true;
  std::span<const GemmNt> products;
  void operands(Operands& see) const;
  double multiply_adds() const {
    double sum = 0;
    for (const GemmNt& each : products) sum += each.multiply_adds();
    return sum;
  }
};
/// y[m, n] = sum over segments of x[m, r] w[r, n] (+ bias) (+ residual). Every w has n columns.
struct GemmNn {
  static constexpr const char* kName = "gemm_nn";
  static constexpr bool kNeedsRoom = true;
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
  double multiply_adds() const {
    double sum = 0;
    for (const Segment& s : segments) sum += product_adds(m, n, s.w.rows);
    return sum;
  }
};
/// out[r, n] += scale * sum over tokens of u[t, r] x[t, n]; stored as [n, r] if transposed. The gradients of low-rank
/// factors: dA = (G B)^T x, dB = G^T h. Sums over t run in a fixed order.
struct ReduceTokens {
  static constexpr const char* kName = "reduce_tokens";
  static constexpr bool kNeedsRoom = true;
  Precision precision;
  int64_t tokens;
  Matrix u;
  int64_t r;
  Matrix x;
  int64_t n;
  float scale;
  Ptr<float> out;
  int64_t ld;
  bool transposed;
  void operands(Operands& see) const {
    see.reads(u, tokens, r);
    see.reads(x, tokens, n);
    transposed ? see.adds(f32_matrix(out, ld), n, r) : see.adds(f32_matrix(out, ld), r, n);
  }
  double multiply_adds() const { return product_adds(tokens, r, n); }
};

}  // namespace lowrank
