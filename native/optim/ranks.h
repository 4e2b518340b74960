// The optimizer's step of an adapter that trains a number of ranks drawn anew for each step: rank j is row j of A and
// column j of B, and has a count of updates of its own. Ranks without a gradient stay as they are, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "adapters/adapter.h"
#include "device/optimizer_kernels.h"

namespace lowrank {

/// Ranks that a step trains.
struct TrainedRanks {
  int64_t active = 0;      // ranks in use, from the first; 0: all
  bool last_only = false;  // of those, only the last gets gradients

  /// Ranks [first, end) of a term with `rank` of them that get gradients.
  struct Range {
    int64_t first, end;
  };
  Range of(int64_t rank) const;
};

struct RankDraws : TrainedRanks {
  std::vector<int64_t> draws;  // draws[b - 1]: steps so far with b ranks in use, this one included

  /// Steps so far in which rank `index`, from 0, of a term with `rank` ranks got a gradient. One with fewer ranks
  /// than are drawn uses all it has.
  int64_t count(int64_t index, int64_t rank) const;
};

/// Adds the ranks of a factor that got gradients, each with a count of updates of its own for the bias correction: rows of
/// A, or columns of B. State and weight decay of the others do not advance. With all ranks in every step the update is
/// that of the whole factor, bit for bit.
void add_ranks(std::vector<UpdatePiece>& pieces, const RankDraws& ranks, int64_t rank, const UpdatePiece& whole,
               bool columns);

/// Throws Error("CONFIG") for an adapter that trains anything but copies of weights and A and B of terms of their own, for
/// state in which ranks are not apart, and for counts that are none.
void check_ranks(const AdapterSpec& spec, const RankDraws& ranks);

}  // namespace lowrank
