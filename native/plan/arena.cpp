// Offline placement of buffers in one arena: largest first, each at the lowest offset where no buffer with an
// overlapping lifetime lies.
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace lowrank {

int64_t place_buffers(std::vector<Buffer>& buffers) {
  std::vector<int> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return buffers[a].bytes > buffers[b].bytes; });
  // Of placed buffers what the search looks at, close together: this is most of the work of planning.
  struct Placed {
    int first, last;
    int64_t offset, end;
  };
  std::vector<Placed> placed;  // ascending by offset
  int64_t arena = 0;
  for (const int id : order) {
    Buffer& buffer = buffers[id];
    if (buffer.first < 0 || buffer.bytes == 0) continue;  // never used
    int64_t offset = 0;
    for (const Placed& other : placed) {
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (other.offset >= offset + buffer.bytes) break;  // the gap before it is large enough
      offset = std::max(offset, other.end);
    }
    buffer.offset = offset;
    const Placed own{buffer.first, buffer.last, offset, offset + buffer.bytes};
    arena = std::max(arena, own.end);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), own,
                                   [](const Placed& x, const Placed& y) { return x.offset < y.offset; }),
                  own);
  }
  return arena;
}

}  // namespace lowrank
