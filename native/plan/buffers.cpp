#include "plan/buffers.h"

#include <algorithm>

#include "core/error.h"
#include "core/math.h"

namespace lowrank {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 44;  // of one buffer: their sums stay within 64 bits

}  // namespace

void Buffers::set_bytes(Buffer& buffer) const {
  const int64_t count = buffer.rows == RowKind::tokens ? options_.tokens
                        : buffer.rows == RowKind::head ? options_.head_rows
                                                       : 1;
  buffer.bytes = round_up(count * buffer.cols * size_of(buffer.dtype), 64);
  if (buffer.bytes > kMostBytes)
    fail("CONFIG", "plan: ", buffer.name, " would take ", buffer.bytes, " bytes; lower the plan's capacity");
}

int Buffers::add(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) {
  Buffer buffer{name, category, dtype, rows, cols};
  set_bytes(buffer);
  all_.push_back(std::move(buffer));
  return static_cast<int>(all_.size()) - 1;
}

int64_t Buffers::end_of(int outer) const {
  int64_t end = 0;
  for (const Buffer& buffer : all_)
    if (buffer.within == outer) end = std::max(end, buffer.column + buffer.cols);
  return end;
}

/// Rows begin at multiples of 64 elements, so that those of any type are aligned.
void Buffers::append(int outer, int inner) {
  Buffer& buffer = all_[inner];
  buffer.column = end_of(outer);
  buffer.within = outer;
  buffer.bytes = 0;
  Buffer& wider = all_[outer];
  wider.cols = round_up(buffer.column + buffer.cols, 64);
  set_bytes(wider);
}

void Buffers::lay_beside(const std::string& name, const std::vector<int>& operands) {
  if (!joins_) return;
  int outer = -1;
  std::vector<int> inner;
  for (const int id : operands) {
    if (outer < 0) outer = all_[id].within;
    if (may_lie_within(id) && std::find(inner.begin(), inner.end(), id) == inner.end()) inner.push_back(id);
  }
  if (inner.size() + (outer < 0 ? 0 : 1) < 2) return;
  if (outer < 0) outer = add(name, Category::activations, all_[inner.front()].dtype, RowKind::tokens, 0);
  for (const int id : inner) append(outer, id);
}

int Buffers::tail(int buffer, int64_t cols) {
  if (!joins_ || all_[buffer].dense) return -1;
  const auto [found, is_new] = tails_.try_emplace(buffer, -1);
  const Buffer& before = all_[buffer];
  if (is_new && (before.within < 0 || before.column + before.cols == end_of(before.within))) {
    const std::string name = before.name;
    found->second = add(name + " tail", Category::activations, before.dtype, RowKind::tokens, cols);
    lay_beside(name + " and its tail", {buffer, found->second});
  }
  return found->second;
}

void Buffers::keep_dense(int buffer) {
  if (all_[buffer].within >= 0)
    fail("INTERNAL", "rows of ", all_[buffer].name, " are to follow each other, but lie within others");
  all_[buffer].dense = true;
}

void Buffers::live_with_inner() {
  for (const Buffer& inner : all_) {
    if (inner.within < 0 || inner.first < 0) continue;
    Buffer& outer = all_[inner.within];
    outer.first = outer.first < 0 ? inner.first : std::min(outer.first, inner.first);
    outer.last = std::max(outer.last, inner.last);
  }
}

}  // namespace lowrank
