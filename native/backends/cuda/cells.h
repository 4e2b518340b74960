// Matrices as arguments of kernels that take elements of several types.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

enum class Element : int32_t { f32, bf16, f16 };

/// Row-major, `ld` elements from row to row.
struct Cells {
  void* data;
  int64_t ld;
  Element element;
  /// Rows begin at multiples of 16 bytes, so eight elements from a multiple of eight on can be accessed as a whole.
  int32_t wide;
};

/// A block of 256 threads covers tiles of a matrix: 2^shift threads a row, each with eight columns.
struct Tiles {
  int64_t rows, cols;
  int32_t shift;
  int32_t unused = 0;
};
inline constexpr int kTileThreads = 256, kColumnsAtOnce = 8;

}  // namespace lowrank::cuda
