#include "plan/beside.h"

#include <algorithm>

#include "core/math.h"

namespace lowrank {

std::vector<int> placeable_beside(const std::vector<Buffer>& buffers, const std::vector<int>& candidates) {
  std::vector<int> inner;
  for (const int id : candidates) {
    const bool known = std::find(inner.begin(), inner.end(), id) != inner.end();
    if (!known && !buffers[id].dense && buffers[id].within < 0) inner.push_back(id);
  }
  return inner;
}

/// Rows begin at multiples of 64 elements, so that those of any type are aligned.
int64_t columns_beside(const std::vector<Buffer>& buffers, const std::vector<int>& inner) {
  int64_t cols = 0;
  for (const int id : inner) cols += buffers[id].cols;
  return round_up(cols, 64);
}

void lay_within(std::vector<Buffer>& buffers, const std::vector<int>& inner, int outer) {
  int64_t column = 0;
  for (const int id : inner) {
    Buffer& buffer = buffers[id];
    buffer.within = outer;
    buffer.column = column;
    buffer.bytes = 0;
    column += buffer.cols;
  }
}

void live_with_inner(std::vector<Buffer>& buffers) {
  for (const Buffer& inner : buffers) {
    if (inner.within < 0 || inner.first < 0) continue;
    Buffer& outer = buffers[inner.within];
    outer.first = outer.first < 0 ? inner.first : std::min(outer.first, inner.first);
    outer.last = std::max(outer.last, inner.last);
  }
}

}  // namespace lowrank
