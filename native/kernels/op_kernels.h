// Kernels for the graph's operations, as values; see kernels/kernels.h.
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

/// y[m, n] = sum over segments of x[m, k] w[n, k]^T (+ bias) (+ residual).
struct GemmNt {
  static constexpr const char* kName = "gemm_nt";
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
};
/// Products of the same rows of x, whose outputs may lie beside each other.
struct GroupedGemmNt {
  static constexpr const char* kName = "grouped_gemm_nt";
  std::span<const GemmNt> products;
  void operands(Operands& see) const;
};
/// y[m, n] = sum over segments of x[m, r] w[r, n] (+ bias) (+ residual).
struct GemmNn {
  static constexpr const char* kName = "gemm_nn";
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
};
/// out[r, n] += scale * sum over tokens of u[t, r] x[t, n]; stored as [n, r] if transposed.
struct ReduceTokens {
  static constexpr const char* kName = "reduce_tokens";
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
  void operands(Operands& see) const;
};

/// out[t] = row ids[t] of a table, decoded to fp32.
struct DecodeRows {
  static constexpr const char* kName = "decode_rows";
  int64_t tokens;
  Ptr<int32_t> ids;
  Factor table;
  Matrix out;
  void operands(Operands& see) const;
};

}  // namespace lowrank
