// Matrices and tiles of a launch.
#pragma once

#include <algorithm>

#include "backends/cuda/cells.h"
#include "backends/cuda/launcher.h"
#include "kernels/operands.h"

namespace lowrank::cuda {

inline Cells cells_of(const Matrix& m) {
  const Element element = m.dtype == DType::f32 ? Element::f32 : m.dtype == DType::bf16 ? Element::bf16 : Element::f16;
  const bool wide = m.data.address() % 16 == 0 && m.ld * size_of(m.dtype) % 16 == 0;
  return {device_pointer(m.data), m.ld, element, wide};
}

/// For groups of `cols` columns, which a kernel reads eight at a time.
inline Cells grouped_cells(const Matrix& m, int64_t groups, int64_t cols) {
  Cells cells = cells_of(m);
  cells.wide = cells.wide && (groups == 1 || cols % 8 == 0);
  return cells;
}

inline Tiles tiles_of(int64_t rows, int64_t cols) {
  Tiles tiles{rows, cols, 0};
  while ((int64_t{kColumnsAtOnce} << tiles.shift) < cols && (1 << tiles.shift) < kTileThreads) ++tiles.shift;
  return tiles;
}
/// Blocks of kTileThreads threads.
inline Grid grid_of(const Tiles& tiles) {
  const int64_t high = kTileThreads >> tiles.shift, wide = int64_t{kColumnsAtOnce} << tiles.shift;
  return {(tiles.rows + high - 1) / high, (tiles.cols + wide - 1) / wide};
}

/// Blocks of `threads` threads with one element each.
inline Grid blocks_of(int64_t elements, int threads) { return {(elements + threads - 1) / threads}; }

}  // namespace lowrank::cuda
