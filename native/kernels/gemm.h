// Matrix products. One product sums over several segments, so that an adapter's low-rank part, or the gradients of
// several projections of the same input, are further columns of one reduction and never pass through memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/precision.h"
#include "kernels/factors.h"
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

  Output rows(int64_t first) const {
    return {y.rows(first), bias, residual ? residual + first * residual_ld : residual, residual_ld};
  }
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
/// What an adapter adds to some rows of a product: y += (x a^T) b^T, with x a^T rounded as an operand.
struct LowRankPart {
  int64_t row = 0, rows = 0;  // of x and y: the first, and their number
  Factor a;                   // [rank, k], fp32
  Fold b;                     // [n, rank]; where it is folded is up to the device

  bool has(int64_t of) const { return of >= row && of < row + rows; }
};
/// y[m, n] = x[m, k] w[n, k]^T (+ parts) (+ bias) (+ residual), each row with the bits that GemmNt gives it alone, with
/// its parts as further segments in their order.
struct GemmNtByRow {
  static constexpr const char* kName = "gemm_nt_by_row";
  static constexpr bool kNeedsRoom = true;
  Precision precision;
  int64_t m, n;
  Segment base;
  std::span<const LowRankPart> parts;
  Output to;
  void operands(Operands& see) const;
  double multiply_adds() const {
    double sum = product_adds(m, n, base.w.cols);
    for (const LowRankPart& p : parts) sum += product_adds(p.rows, p.a.rows, p.a.cols + n);
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
