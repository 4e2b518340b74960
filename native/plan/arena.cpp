// Offline placement of buffers in one arena: largest first, each at the lowest offset where no buffer with an
// overlapping lifetime lies.
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace lowrank {

namespace {

/// The part of a placed buffer that the search looks at, close together: this is most of the work of planning.
struct Placed {
  int first, last;
  int64_t offset, end;
};
using ByOffset = std::vector<Placed>;  // ascending

void insert(ByOffset& list, const Placed& own) {
  list.insert(std::upper_bound(list.begin(), list.end(), own,
                               [](const Placed& a, const Placed& b) { return a.offset < b.offset; }),
              own);
}

}  // namespace

int64_t place_buffers(std::vector<Buffer>& buffers) {
  std::vector<int> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return buffers[a].bytes > buffers[b].bytes; });
  // Most buffers live for a few steps, and need not look at what does not live in the stretch of steps around them.
  constexpr int kStretch = 64;
  int end = 0;
  for (const Buffer& buffer : buffers) end = std::max(end, buffer.last + 1);
  std::vector<ByOffset> stretches(end / kStretch + 1);
  ByOffset all;
  int64_t arena = 0;
  for (const int id : order) {
    Buffer& buffer = buffers[id];
    if (buffer.first < 0 || buffer.bytes == 0) continue;  // never used
    const int from = buffer.first / kStretch, to = buffer.last / kStretch;
    int64_t offset = 0;
    for (const Placed& other : from == to ? stretches[from] : all) {
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (other.offset >= offset + buffer.bytes) break;  // the gap before it is large enough
      offset = std::max(offset, other.end);
    }
    buffer.offset = offset;
    const Placed own{buffer.first, buffer.last, offset, offset + buffer.bytes};
    arena = std::max(arena, own.end);
    insert(all, own);
    for (int stretch = from; stretch <= to; ++stretch) insert(stretches[stretch], own);
  }
  for (Buffer& buffer : buffers)
    if (buffer.within >= 0) buffer.offset = buffers[buffer.within].offset + buffer.column * size_of(buffer.dtype);
  return arena;
}

}  // namespace lowrank
