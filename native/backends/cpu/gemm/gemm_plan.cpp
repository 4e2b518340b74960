#include "backends/cpu/gemm/gemm_plan.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "backends/cpu/gemm/gemm.h"
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

int64_t hidden_ld(const LowRankPart& part) { return round_up(part.a.rows, int64_t{32}); }
int64_t hidden_bytes(const LowRankPart& part) {
  return part.rows * hidden_ld(part) * static_cast<int64_t>(sizeof(float));
}

/// Activations of few rows, in fp32 and with the sums of their groups, and those of at most sixteen parts.
bool fits_few_rows(int64_t depth, int64_t ranks) {
  constexpr int64_t kParts = 16, kPadding = 32;
  const int64_t activations = depth + depth / 16 + 3 * kPadding, hidden = ranks + kParts * kPadding;
  return kFewRows * (activations + hidden) * static_cast<int64_t>(sizeof(float)) <= kGroupBytes && depth <= kTileBytes;
}

SegmentViews::SegmentViews(const Cpu& cpu, std::span<const Segment> segments) {
  if (segments.size() > kUsual) more_.resize(segments.size());
  views_ = {segments.size() > kUsual ? more_.data() : usual_, segments.size()};
  for (size_t s = 0; s < segments.size(); ++s)
    std::construct_at(&views_[s], SegmentView{segments[s].x, view(cpu, segments[s].w)});
}

namespace {

/// Levels without bf16 arithmetic compute in fp32 whatever was asked for, so the fp32 bound holds for both precisions.
/// Sums of blocks of a long reduction go to the output itself where that is fp32.
int64_t product_workspace(int64_t m, int64_t n, std::span<const Segment> segments, int64_t Factor::* length,
                          const Output& to, int threads) {
  constexpr int64_t kLargestStep = 32;
  int64_t total = 0;
  for (const Segment& s : segments) total += round_up(s.w.*length, kLargestStep);
  const bool split = total > kReductionBytes / static_cast<int64_t>(sizeof(float)) ||
                     segments.size() > static_cast<size_t>(kMostPieces);
  const int64_t partial_sums = split && to.y.dtype != DType::f32 ? m * n * static_cast<int64_t>(sizeof(float)) : 0;
  return threads * kThreadBytes + round_up(partial_sums, 64);
}

}  // namespace

int64_t workspace(const GemmNt& k, int threads) {
  return product_workspace(k.m, k.n, k.segments, &Factor::cols, k.to, threads);
}

int64_t workspace(const GroupedGemmNt& k, int threads) {
  int64_t most = 0;
  for (const GemmNt& each : k.products) most = std::max(most, workspace(each, threads));
  return most;
}

/// The threads' own, then the operands of all parts.
int64_t workspace(const GemmNtByRow& k, int threads) {
  int64_t hidden = 0;
  for (const LowRankPart& part : k.parts) hidden += hidden_bytes(part);
  return threads * kThreadBytes + hidden;
}

int64_t workspace(const GemmNn& k, int threads) {
  return product_workspace(k.m, k.n, k.segments, &Factor::rows, k.to, threads);
}

int64_t workspace(const ReduceTokens& k, int threads) {
  return factors_bytes(k.tokens, k.r) + sums_bytes(k.r, k.n) + threads * kThreadBytes;
}

}  // namespace lowrank::cpu
