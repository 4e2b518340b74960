#include "runtime/link_sum.h"

#include <algorithm>
#include <vector>

#include "comm/sum.h"
#include "core/error.h"

namespace lowrank {
namespace {

/// Numbers of a piece are a multiple of these, so that all pieces are aligned.
constexpr int64_t kAligned = 64;
/// Numbers that are under way at a time, at most.
constexpr int64_t kMost = int64_t{16} << 20;

struct OnDevice {
  Link& link;

  void copy(Ptr<float> from, int64_t count, Ptr<float> to) {
    link.memory().copy(to.as<std::byte>(), from.as<std::byte>(), count * static_cast<int64_t>(sizeof(float)));
  }
  void zero(Ptr<float> at, int64_t count) { link.zero(at, count); }
  void exchange(Ptr<float> to, Ptr<float> from, int64_t count) { link.exchange(to, from, count); }
  void add(Ptr<float> pieces, int64_t count, Ptr<float> to) { link.add(pieces, count, to); }
  void gather(Ptr<float> own, Ptr<float> all, int64_t count) { link.gather(own, all, count); }
};

/// The most numbers of a piece that every rank has room for. Ranks wait here for each other, where a lost one is found.
int64_t agreed_piece(Comm& comm, int64_t own) {
  std::vector<int64_t> all(static_cast<size_t>(comm.size()));
  comm.gather(&own, all.data(), sizeof(own));
  return *std::min_element(all.begin(), all.end());
}

}  // namespace

bool sum_over_link(Comm& comm, Link& link, Ptr<float> values, int64_t count, const Allocation& room) {
  const int ranks = comm.size();
  const int64_t fits = room.bytes() / static_cast<int64_t>(sizeof(float)) / sum_pieces(ranks);
  const int64_t piece = agreed_piece(comm, std::min(fits, kMost / ranks) / kAligned * kAligned);
  if (piece == 0) return false;
  OnDevice device{link};
  sum_in_pieces(device, ranks, values, count, room.data().as<float>(), piece);
  if (!link.finish([&] { return comm.lost() >= 0; }))
    fail("RANKS", "rank ", comm.lost(), " was lost while gradients were added up");
  return true;
}

}  // namespace lowrank
