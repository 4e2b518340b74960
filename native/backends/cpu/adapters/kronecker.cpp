#include "backends/cpu/adapters/kronecker.h"

#include <algorithm>

#include "backends/cpu/ops_common.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kRows = 48;                    // rows of a product with D, at least
constexpr int64_t kMostChunks = 16;              // enough for the cores to share
constexpr int64_t kMostSums = int64_t{4} << 20;  // floats of all chunks' sums

/// For at most `tokens` tokens, forward or backward.
int64_t workspace(const KroneckerShape& s, int64_t tokens, int threads) {
  const KroneckerWork work = kronecker_work(s, tokens);
  // Fewer tokens may mean as many chunks, never more.
  const int64_t chunks = std::min<int64_t>(kMostChunks, std::max<int64_t>(kMostSums / work.per_chunk, 1));
  // Levels with tiles and without take the same plan.
  const KroneckerTiles tiles = fits_tiles(s) ? kronecker_tiles(s) : KroneckerTiles();
  return 4 * (std::max(work.shared, tiles.shared) + threads * std::max(work.per_thread, tiles.per_thread) +
              std::max(chunks, work.chunks) * work.per_chunk);
}

}  // namespace

KroneckerWork kronecker_work(const KroneckerShape& s, int64_t tokens) {
  KroneckerWork work;
  const bool first = s.mixes_first();
  const int64_t rows = first ? s.l : s.p, between = first ? s.q : s.k;
  work.block = std::clamp<int64_t>((kRows + rows - 1) / rows, 1, 64);
  // In this order: see Room in kronecker.inl.
  work.per_thread = whole_lines(work.block * s.in()) * 2 + whole_lines(work.block * s.out()) +
                    2 * whole_lines(work.block * rows * between) + 2 * whole_lines(work.block * rows * s.r) +
                    whole_lines(s.p * between);
  work.shared = whole_lines(s.l * s.p) + 2 * whole_lines(s.k * std::max(s.r, s.q)) + whole_lines(s.r * s.q);
  work.per_chunk = whole_lines(s.l * s.p) + whole_lines(s.d_elements()) + whole_lines(s.d2_elements());
  const int64_t blocks = (tokens + work.block - 1) / work.block;
  const int64_t most = std::clamp<int64_t>(kMostSums / work.per_chunk, 1, kMostChunks);
  work.chunk_tokens = std::max<int64_t>((blocks + most - 1) / most, 1) * work.block;
  work.chunks = (tokens + work.chunk_tokens - 1) / work.chunk_tokens;
  return work;
}

KroneckerTiles kronecker_tiles(const KroneckerShape& s) {
  const auto whole = [](int64_t side) { return (side + 31) / 32 * 32; };
  KroneckerTiles t{whole(s.l), whole(s.p), whole(s.k), whole(s.q)};
  t.shared = t.l * t.p + t.k * t.q + (s.r > 0 ? whole_lines(s.k * s.q) + whole_lines(s.q * s.r) : 0);
  t.per_thread = t.p * t.q + 2 * t.p * t.k + t.l * t.k + t.largest() + t.l * t.p + t.k * t.q;
  return t;
}

bool fits_tiles(const KroneckerShape& s) {
  const auto [least, most] = std::minmax({s.l, s.p, s.k, s.q});
  return least >= 8 && most <= 128;
}

int64_t workspace(const Kronecker& k, int threads) { return workspace(k.pair.shape, k.tokens, threads); }
int64_t workspace(const KroneckerBackward& k, int threads) { return workspace(k.pair.shape, k.tokens, threads); }

}  // namespace lowrank::cpu
