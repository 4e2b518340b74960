#include "comm/sum.h"

#include "core/memory.h"

namespace lowrank {
namespace {

/// Numbers go out in pieces, one for each rank, that together have kBytes, or kLeast each where ranks are many.
constexpr int64_t kBytes = int64_t{1} << 20;
constexpr int64_t kLeast = 4096;

int64_t piece_bytes(int ranks) { return std::max(kBytes / ranks, kLeast) / 8 * 8; }

template <class T>
struct Host {
  Collective& comm;

  void copy(const T* from, int64_t count, T* to) { std::copy_n(from, count, to); }
  void zero(T* at, int64_t count) { std::fill_n(at, count, T{0}); }
  void exchange(const T* to, T* from, int64_t count) { comm.exchange(to, from, count * kSize); }
  void gather(const T* own, T* all, int64_t count) { comm.gather(own, all, count * kSize); }
  void add(const T* pieces, int64_t count, T* to) {
    std::copy_n(pieces, count, to);
    for (int rank = 1; rank < comm.size(); ++rank)
      for (int64_t i = 0; i < count; ++i) to[i] += pieces[rank * count + i];
  }
  static constexpr auto kSize = static_cast<int64_t>(sizeof(T));
};

template <class T>
void sum(Collective& comm, T* values, int64_t count) {
  const int ranks = comm.size();
  if (ranks == 1) return;
  const Block memory(Category::workspace, sum_bytes(ranks));
  Host<T> host{comm};
  sum_in_pieces(host, ranks, values, count, memory.data<T>(), piece_bytes(ranks) / Host<T>::kSize);
}

}  // namespace

int64_t sum_bytes(int ranks) { return ranks == 1 ? 0 : piece_bytes(ranks) * sum_pieces(ranks); }

void sum_over_ranks(Collective& comm, float* values, int64_t count) { sum(comm, values, count); }

void sum_over_ranks(Collective& comm, double* values, int64_t count) { sum(comm, values, count); }

}  // namespace lowrank
