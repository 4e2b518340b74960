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
  std::vector<int> placed;  // ascending by offset
  int64_t arena = 0;
  for (const int id : order) {
    Buffer& buffer = buffers[id];
    if (buffer.first < 0 || buffer.bytes == 0) continue;  // never used
    int64_t offset = 0;
    for (const int other_id : placed) {
      const Buffer& other = buffers[other_id];
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (other.offset >= offset + buffer.bytes) break;  // the gap before it is large enough
      offset = std::max(offset, other.offset + other.bytes);
    }
    buffer.offset = offset;
    arena = std::max(arena, offset + buffer.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), id,
                                   [&](int a, int b) { return buffers[a].offset < buffers[b].offset; }),
                  id);
  }
  return arena;
}

}  // namespace lowrank
