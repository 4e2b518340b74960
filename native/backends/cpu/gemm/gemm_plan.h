// Partition of a product: the reduction into blocks, the output among threads. Nothing here depends on an instruction
// set, and the blocks of the reduction follow from the shape alone, so that results depend on neither thread count nor
// machine load.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gemm.h"

namespace lowrank::cpu {

/// Bytes of one thread's buffer of decoded weights: half of a 2 MiB second-level cache.
inline constexpr int64_t kGroupBytes = 1024 * 1024;
/// Longest reduction that is summed in registers; longer ones are summed block by block in fp32.
inline constexpr int64_t kReductionBytes = 8192;
/// Most pieces of segments in one block.
inline constexpr int64_t kMostPieces = 16;
/// Rows of the tallest tile of any level, and what the copy of a row's piece is padded by.
inline constexpr int64_t kTallestTile = 32;
inline constexpr int64_t kRowPadding = 64;
/// Bytes of one thread's copy of a row tile, for activations that cannot be used in place.
inline constexpr int64_t kTileBytes = kTallestTile * (kReductionBytes + kMostPieces * kRowPadding);
/// Most runs that a tile's part of a block is cut into, and the bytes of the sums that are carried between them.
inline constexpr int64_t kMostRuns = 8;
inline constexpr int64_t kCarriedBytes = 128 * 1024;
/// Bytes of workspace of one thread.
inline constexpr int64_t kThreadBytes = kGroupBytes + kTileBytes + kCarriedBytes;

/// Most rows of a product that are multiplied vector by vector, without panels.
inline constexpr int64_t kFewRows = 4;

/// True if products of few rows over so long a reduction, with parts of so many ranks, are multiplied so in any format.
bool fits_few_rows(int64_t depth, int64_t ranks);

/// The operands x a^T of a part in fp32: elements from row to row, and bytes of all of them.
int64_t hidden_ld(const LowRankPart& part);
int64_t hidden_bytes(const LowRankPart& part);

/// Part [begin, begin + count) of one segment's reduction.
struct Piece {
  int segment;
  int64_t begin;
  int64_t count;
  int64_t padded;  // count rounded up to the kernel's step
};

struct ReductionBlock {
  std::vector<Piece> pieces;
  int64_t padded = 0;  // sum of the pieces' padded counts
};

/// Cuts a concatenated reduction of more than `longest` elements into equal blocks of at most a quarter of that; every
/// piece is padded to `step`.
std::vector<ReductionBlock> reduction_blocks(std::span<const int64_t> reductions, int64_t step, int64_t longest);

/// The threads of a product as a grid over its output: `columns` ranges of panels times `rows` ranges of row tiles.
struct Grid {
  int columns;
  int rows;
};

/// Splitting columns makes every thread read all activations, splitting rows makes every thread decode all weights;
/// takes the split whose busiest thread has least to do. Costs are in arbitrary units per panel, tile, or both.
Grid choose_grid(int threads, int64_t panels, int64_t tiles, double decode_cost, double load_cost, double tile_cost);

/// Layout of a token reduction's workspace: factors [r, T] in fp32 or bf16, then sums [r, n] in fp32, then what the
/// product of the two needs. Rows of factors are padded so that they do not alias in the cache.
constexpr int64_t factors_stride(int64_t tokens) { return (tokens + 31) / 32 * 32 + 32; }
constexpr int64_t factors_bytes(int64_t tokens, int64_t r) { return r * factors_stride(tokens) * 4; }
constexpr int64_t sums_bytes(int64_t r, int64_t n) { return r * ((n + 63) / 64 * 64) * 4; }

/// Item range of part `index` when `count` items are dealt out evenly to `parts`.
constexpr int64_t part_begin(int64_t count, int64_t parts, int64_t index) { return count * index / parts; }

}  // namespace lowrank::cpu
