// Element-wise kernels: rotations, rows that are picked, conversions, dropout, noise, and gains.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/operands.h"

namespace lowrank {

/// Rotates halves of the first `turned` columns of every head in place, or back; cos and sin [positions, turned / 2].
struct Rope {
  static constexpr const char* kName = "rope";
  int64_t rows;
  int32_t heads, head_dim, turned;
  Matrix x;
  Ptr<int32_t> positions;
  Ptr<float> cos, sin;
  bool inverse;
  void operands(Operands& see) const {
    const int64_t pairs = turned / 2;
    see.reads_rows(f32_matrix(cos, pairs), positions, rows, pairs);
    see.reads_rows(f32_matrix(sin, pairs), positions, rows, pairs);
    see.adds(x, rows, int64_t{heads} * head_dim);
  }
};

/// out[i] = x[rows[i]], or x[i] without `rows`.
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  int64_t count, cols;
  Matrix x;
  Ptr<int32_t> rows;
  Matrix out;
  void operands(Operands& see) const {
    rows ? see.reads_rows(x, rows, count, cols) : see.reads(x, count, cols);
    see.writes(out, count, cols);
  }
};

/// out[rows[i]] += x[i] for distinct rows, or out[i] without `rows`.
struct ScatterAddRows {
  static constexpr const char* kName = "scatter_add_rows";
  int64_t count, cols;
  Matrix x;
  Ptr<int32_t> rows;
  Matrix out;
  void operands(Operands& see) const {
    see.reads(x, count, cols);
    see.adds_rows(out, rows, count, cols);
  }
};

/// to = 0.
struct Zero {
  static constexpr const char* kName = "zero";
  Ptr<std::byte> to;
  int64_t bytes;
  void operands(Operands& see) const { see.writes(to, bytes); }
};

/// Rounds fp32 to bf16.
struct Cast {
  static constexpr const char* kName = "cast";
  int64_t count;
  Ptr<float> from;
  Ptr<uint16_t> to;
  void operands(Operands& see) const {
    see.reads(from, count);
    see.writes(to, count);
  }
};

/// to[i] += value.
struct AddConstant {
  static constexpr const char* kName = "add_constant";
  int64_t count;
  float value;
  Ptr<float> to;
  void operands(Operands& see) const { see.adds(to, count); }
};

/// Adds uniform noise from (-bound, bound) to rows of packed sequences, where bound is alpha / sqrt(number of elements
/// in the row's sequence).
struct AddNoise {
  static constexpr const char* kName = "add_noise";
  int64_t rows, cols;
  std::span<const int32_t> host_seqlens;
  float alpha;
  uint64_t key;
  Matrix y;  // f32
  void operands(Operands& see) const { see.adds(y, rows, cols); }
};

/// Inverted dropout by a counter: out = keep(key, index) ? x / (1 - p) : 0.
struct Dropout {
  static constexpr const char* kName = "dropout";
  int64_t rows, cols;
  Matrix x;
  float p;
  uint64_t key;
  Matrix out;
  void operands(Operands& see) const {
    see.reads(x, rows, cols);
    see.writes(out, rows, cols);
  }
};

/// y += keep(key, index) ? x / (1 - p) : 0.
struct DropoutBackward {
  static constexpr const char* kName = "dropout_backward";
  int64_t rows, cols;
  Matrix x;
  float p;
  uint64_t key;
  Matrix y;
  void operands(Operands& see) const {
    see.reads(x, rows, cols);
    see.adds(y, rows, cols);
  }
};

/// y[r, c] = x[r, c] gain[c] (+ bias[c]) (+ addend[r, c]).
struct ScaleColumns {
  static constexpr const char* kName = "scale_columns";
  int64_t rows, cols;
  Matrix x;
  Ptr<float> gain, bias;
  Matrix addend, y;
  void operands(Operands& see) const {
    see.reads(x, rows, cols);
    see.reads(gain, cols);
    see.reads(bias, cols);
    see.reads(addend, rows, cols);
    see.writes(y, rows, cols);
  }
};

}  // namespace lowrank
