#include "grammar/vocabulary.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace lowrank {

Vocabulary::Vocabulary(std::vector<uint8_t> bytes, std::vector<int32_t> ends, const std::vector<uint8_t>& special) {
  if (ends.size() != special.size()) fail("CONFIG", ends.size(), " tokens, but ", special.size(), " of their kinds");
  begins_.push_back(0);
  int32_t begin = 0;
  for (size_t token = 0; token < ends.size(); ++token) {
    if (ends[token] < begin || ends[token] > static_cast<int64_t>(bytes.size()))
      fail("CONFIG", "token ", token, " ends at byte ", ends[token], " of ", bytes.size());
    if (special[token] != 0) {
      bytes_.push_back(kTokenByte);
      for (int shift = 0; shift < 32; shift += 8) bytes_.push_back(static_cast<uint8_t>(token >> shift));
    } else if (std::find(bytes.begin() + begin, bytes.begin() + ends[token], kTokenByte) ==
               bytes.begin() + ends[token]) {  // others are in no text
      bytes_.insert(bytes_.end(), bytes.begin() + begin, bytes.begin() + ends[token]);
    }
    begins_.push_back(static_cast<int32_t>(bytes_.size()));
    begin = ends[token];
  }
  std::vector<int32_t> order(ends.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return std::lexicographical_compare(this->begin(a), this->end(a), this->begin(b), this->end(b));
  });
  std::vector<int32_t> open;  // nodes from the root to the last one
  const auto close = [&](size_t depth) {
    while (open.size() > depth) {
      nodes_[open.back()].end = static_cast<int32_t>(nodes_.size());
      open.pop_back();
    }
  };
  for (const int32_t token : order) {
    const uint8_t* const text = this->begin(token);
    const auto length = static_cast<size_t>(this->end(token) - text);
    if (length == 0) continue;
    size_t shared = 0;
    while (shared < std::min(length, open.size()) && nodes_[open[shared]].byte == text[shared]) ++shared;
    close(shared);
    for (size_t depth = shared; depth < length; ++depth) {
      open.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back({text[depth], static_cast<int32_t>(depth) + 1, 0, static_cast<int32_t>(tokens_.size()), 0});
    }
    ++nodes_.back().count;
    tokens_.push_back(token);
  }
  close(0);
}

}  // namespace lowrank
