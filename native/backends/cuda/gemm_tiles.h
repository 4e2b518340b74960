// The kernels of products by their tiles, and which of them a shape takes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cuda/gemm.h"
#include "backends/cuda/launcher.h"
#include "backends/cuda/library_product.h"
#include "core/math.h"

namespace lowrank::cuda {

struct GemmTile {
  KernelOf<GemmArgs> kernel;
  int m, n, depth;  // depth: columns of the reduction in a step
  int threads, stages;

  constexpr int64_t shared_bytes() const { return int64_t{stages} * (m + n) * depth * 2; }
  constexpr int64_t tiles(int64_t rows, int64_t cols) const { return ceil_div(rows, m) * ceil_div(cols, n); }
};

inline constexpr GemmTile kGemmTiles[3][6] = {
    {{{"gemm_nt_128x128"}, 128, 128, 32, 256, 3},
     {{"gemm_nt_64x64"}, 64, 64, 64, 128, 3},
     {{"gemm_nt_64x128"}, 64, 128, 32, 128, 3},
     {{"gemm_nt_64x32"}, 64, 32, 64, 128, 3},
     {{"gemm_nt_64x16"}, 64, 16, 64, 128, 3}},
    {{{"gemm_nn_128x128"}, 128, 128, 32, 256, 3},
     {{"gemm_nn_64x64"}, 64, 64, 64, 128, 3},
     {{"gemm_nn_64x128"}, 64, 128, 32, 128, 3},
     {{"gemm_nn_64x32"}, 64, 32, 64, 128, 3},
     {{"gemm_nn_64x16"}, 64, 16, 64, 128, 3}},
    {{{"gemm_tn_128x128"}, 128, 128, 32, 256, 3},
     {{"gemm_tn_64x64"}, 64, 64, 64, 128, 3},
     {{"gemm_tn_32x128"}, 32, 128, 32, 128, 4},
     {{"gemm_tn_16x128"}, 16, 128, 32, 128, 4},
     {{"gemm_tn_128x32"}, 128, 32, 32, 128, 4},
     {{"gemm_tn_128x16"}, 128, 16, 32, 128, 4}},
};

/// Blocks that keep the largest cards busy. The same for every card, so that sums are cut alike on all.
inline constexpr int64_t kBusyBlocks = 264;
inline constexpr int64_t kMostParts = 16;

/// The tile of an output [m, n].
inline const GemmTile& tile_of(GemmLayout layout, int64_t m, int64_t n) {
  const auto& tiles = kGemmTiles[static_cast<int>(layout)];
  if (layout == GemmLayout::tn) {
    if (m <= 16) return tiles[3];
    if (n <= 16) return tiles[5];
    if (m <= 32) return tiles[2];
    if (n <= 32) return tiles[4];
    if (m <= 64 || n <= 64) return tiles[1];
  } else {
    if (n <= 16) return tiles[4];
    if (n <= 32) return tiles[3];
    if (n <= 64) return tiles[1];
    if (n <= 128) return tiles[2];
  }
  return tiles[0].tiles(m, n) < kBusyBlocks / 2 ? tiles[1] : tiles[0];
}

/// The most parts that a reduction of `steps` steps is cut into, each of at least `least` of them, where few tiles
/// would leave most of a card idle. Never less for more steps.
inline int64_t most_parts_of(int64_t tiles, int64_t steps, int64_t least) {
  return std::max<int64_t>(1, std::min({kMostParts, steps / least, kBusyBlocks / std::max<int64_t>(tiles, 1)}));
}
/// Its parts, of which none is empty.
inline int64_t parts_of(int64_t tiles, int64_t steps, int64_t least) {
  if (steps == 0) return 1;
  return ceil_div(steps, ceil_div(steps, most_parts_of(tiles, steps, least)));
}

/// Launches one kernel, its reduction cut into `parts` parts.
inline void multiply(Launcher& launcher, const GemmTile& tile, GemmArgs args, int64_t parts = 1) {
  int64_t steps = 0;
  for (int i = 0; i < args.segments; ++i) steps += ceil_div(args.segment[i].k, tile.depth);
  args.part_steps = std::max<int64_t>(1, ceil_div(steps, parts));
  const Grid grid{ceil_div(args.m, tile.m), ceil_div(args.n, tile.n), parts};
  launcher.launch(tile.kernel, grid, tile.threads, args, tile.shared_bytes());
}

}  // namespace lowrank::cuda
