#include "comm/sum.h"

#include <algorithm>
#include <cstring>

#include "core/memory.h"

namespace lowrank {
namespace {

/// Numbers go out in pieces, one for each rank, that together have so many bytes, or a page each where ranks are many.
constexpr int64_t kBytes = int64_t{1} << 20;
constexpr int64_t kLeast = 4096;

int64_t piece_bytes(int ranks) { return std::max(kBytes / ranks, kLeast) / 8 * 8; }

template <class T>
void sum(Collective& comm, T* values, int64_t count) {
  const int ranks = comm.size();
  if (ranks == 1) return;
  constexpr auto kSize = static_cast<int64_t>(sizeof(T));
  const int64_t most = piece_bytes(ranks) / kSize;
  const Block memory(Category::workspace, sum_bytes(ranks));
  T* const all = memory.data<T>();
  T* const own = all + most * ranks;
  for (int64_t begin = 0; begin < count; begin += most * ranks) {
    const int64_t here = std::min(count - begin, most * ranks);
    const int64_t piece = (here + ranks - 1) / ranks;
    T* const sent = own + most;
    std::copy_n(values + begin, here, sent);
    std::fill(sent + here, sent + piece * ranks, T{0});
    comm.exchange(sent, all, piece * kSize);
    std::copy_n(all, piece, own);
    for (int rank = 1; rank < ranks; ++rank)
      for (int64_t i = 0; i < piece; ++i) own[i] += all[rank * piece + i];
    comm.gather(own, all, piece * kSize);
    std::copy_n(all, here, values + begin);
  }
}

}  // namespace

int64_t sum_bytes(int ranks) { return ranks == 1 ? 0 : piece_bytes(ranks) * (2 * int64_t{ranks} + 1); }

void sum_over_ranks(Collective& comm, float* values, int64_t count) { sum(comm, values, count); }

void sum_over_ranks(Collective& comm, double* values, int64_t count) { sum(comm, values, count); }

}  // namespace lowrank
