// Optimizer step of an adapter that trains a random number of ranks per step: rank j is row j of A and column j of B,
// with its own update count. Ranks without a gradient stay bit-identical.
#pragma once

#include <cstdint>
#include <vector>

#include "adapters/adapter.h"
#include "core/boundary.h"
#include "kernels/updates.h"

namespace lowrank {

/// Ranks [first, end) of a term that get gradients.
struct RankRange {
  int64_t first, end;
};
/// Of a term with `rank` ranks.
RankRange trained_of(const TrainedRanks& ranks, int64_t rank);

/// Number of steps so far in which rank `index` (from 0) of a term with `rank` ranks got a gradient. If more ranks are
/// drawn than a term has, it uses all of them.
int64_t count_of(const RankDraws& ranks, int64_t index, int64_t rank);

/// Adds the ranks of a factor that got gradients (rows of A or columns of B), each with its own update count for the
/// bias correction. State and weight decay of the others do not advance. With all ranks in every step, the update is
/// bit-identical to that of the whole factor.
void add_ranks(std::vector<UpdatePiece>& pieces, const RankDraws& ranks, int64_t rank, const UpdatePiece& whole,
               bool columns);

/// Throws Error("CONFIG") for an adapter that trains anything but weight copies and unshared A and B of terms, for
/// state that does not separate ranks, and for invalid counts.
void check_ranks(const AdapterSpec& spec, const RankDraws& ranks);

}  // namespace lowrank
