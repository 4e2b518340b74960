#include "backends/cpu/gemm_plan.h"

#include <algorithm>
#include <limits>

#include "backends/cpu/gemm.h"
#include "core/math.h"

namespace lowrank::cpu {

std::vector<ReductionBlock> reduction_blocks(std::span<const int64_t> reductions, int64_t step, int64_t longest) {
  constexpr int64_t kCut = 64;  // cuts fall on quantization blocks of rows that start on one
  int64_t total = 0;
  for (int64_t length : reductions) total += round_up(length, step);
  // A reduction that must be split anyway is split finely: the panels of more columns then fit the buffer, so the
  // activations are read fewer times.
  const int64_t length = total <= longest ? longest : longest / 4;
  const int64_t count = std::max<int64_t>(1, ceil_div(total, length));
  const int64_t target = std::min(length, round_up(ceil_div(total, count), kCut));

  std::vector<ReductionBlock> blocks(1);
  for (size_t segment = 0; segment < reductions.size(); ++segment) {
    for (int64_t begin = 0; begin < reductions[segment];) {
      const int64_t left = reductions[segment] - begin;
      int64_t room = target - blocks.back().padded;
      if (blocks.back().pieces.size() == kMostPieces) room = 0;
      if (round_up(left, step) > room) {
        room = room / kCut * kCut;
        if (room == 0) {
          blocks.emplace_back();
          continue;
        }
      }
      const int64_t taken = std::min(left, room);
      const int64_t padded = round_up(taken, step);
      blocks.back().pieces.push_back({static_cast<int>(segment), begin, taken, padded});
      blocks.back().padded += padded;
      begin += taken;
    }
  }
  return blocks;
}

Grid choose_grid(int threads, int64_t panels, int64_t tiles, double decode_cost, double load_cost, double tile_cost) {
  Grid best{1, 1};
  double least = std::numeric_limits<double>::infinity();
  for (int columns = 1; columns <= threads && columns <= panels; ++columns) {
    const int rows = static_cast<int>(std::min<int64_t>(threads / columns, tiles));
    const double busiest_panels = static_cast<double>(ceil_div(panels, columns));
    const double busiest_tiles = static_cast<double>(ceil_div(tiles, rows));
    const double cost =
        busiest_panels * decode_cost + busiest_tiles * load_cost + busiest_panels * busiest_tiles * tile_cost;
    if (cost < least) {
      least = cost;
      best = {columns, rows};
    }
  }
  return best;
}

int64_t gemm_workspace(Precision precision, int64_t m, int64_t n, std::span<const int64_t> reductions, int threads) {
  // Levels without bf16 arithmetic compute in fp32 whatever was asked for, so the fp32 bound holds for both precisions.
  (void)precision;
  constexpr int64_t kLargestStep = 32;
  int64_t total = 0;
  for (int64_t length : reductions) total += round_up(length, kLargestStep);
  const bool split = total > kReductionBytes / static_cast<int64_t>(sizeof(float)) ||
                     reductions.size() > static_cast<size_t>(kMostPieces);
  const int64_t partial_sums = split ? m * n * static_cast<int64_t>(sizeof(float)) : 0;
  return threads * kThreadBytes + round_up(partial_sums, 64);
}

int64_t reduce_tokens_workspace(int64_t tokens, int64_t r, int64_t n, int threads) {
  return factors_bytes(tokens, r) + sums_bytes(r, n) + threads * kThreadBytes;
}

}  // namespace lowrank::cpu
