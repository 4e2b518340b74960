// Sums over ranks. Each element is summed in rank order by one rank, so a given number of ranks always produces the
// same bits, identical on all ranks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "comm/comm.h"

namespace lowrank {

/// Memory that a sum needs in addition to its values.
int64_t sum_bytes(int ranks);

/// In place. Every rank must pass the same number of values.
void sum_over_ranks(Collective& comm, float* values, int64_t count);
void sum_over_ranks(Collective& comm, double* values, int64_t count);

/// Pieces that a sum needs room for.
constexpr int64_t sum_pieces(int ranks) { return 2 * int64_t{ranks} + 1; }

/// The same in the memory of a place, which copies, zeroes, exchanges, adds, and gathers numbers there.
/// @param room for sum_pieces(ranks) pieces of up to `most` numbers, the same on all ranks
template <class Place, class Values>
void sum_in_pieces(Place& place, int ranks, Values values, int64_t count, Values room, int64_t most) {
  const Values all = room, own = all + most * ranks, sent = own + most;
  for (int64_t begin = 0; begin < count; begin += most * ranks) {
    const int64_t here = std::min(count - begin, most * ranks);
    const int64_t piece = (here + ranks - 1) / ranks;
    place.copy(values + begin, here, sent);
    place.zero(sent + here, piece * ranks - here);
    place.exchange(sent, all, piece);
    place.add(all, piece, own);
    place.gather(own, all, piece);
    place.copy(all, here, values + begin);
  }
}

}  // namespace lowrank
