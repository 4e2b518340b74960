// Order of value heads in GGUF files of Qwen3.5: tiled over the key heads that they share, where models have the value
// heads of a key head together.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace lowrank {

/// Rows, columns, or elements from `first` on, which are `heads` heads of `size` each; no heads: nothing is reordered.
struct HeadOrder {
  int64_t heads = 0;
  int64_t key_heads = 1;
  int64_t size = 1;
  int64_t first = 0;
  bool columns = false;

  explicit operator bool() const { return heads > 0; }
  int64_t end() const { return first + heads * size; }

  /// Position in the file of what the model has at `at`.
  int64_t in_file(int64_t at) const { return moved(at, heads / key_heads, key_heads); }
  /// Position in the model of what the file has at `at`.
  int64_t in_model(int64_t at) const { return moved(at, key_heads, heads / key_heads); }

  /// Rewrites a row of the file, whose heads begin at byte `begin` and have `bytes` each, in the model's order.
  void to_model(uint8_t* row, int64_t begin, int64_t bytes) const {
    rearrange(row, begin, bytes, heads / key_heads, key_heads);
  }
  /// Rewrites a row of the model in the file's order.
  void to_file(uint8_t* row, int64_t begin, int64_t bytes) const {
    rearrange(row, begin, bytes, key_heads, heads / key_heads);
  }

 private:
  void rearrange(uint8_t* row, int64_t begin, int64_t bytes, int64_t inner, int64_t outer) const {
    const std::vector<uint8_t> before(row + begin, row + begin + heads * bytes);
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t from = head % inner * outer + head / inner;
      std::memcpy(row + begin + head * bytes, before.data() + from * bytes, static_cast<size_t>(bytes));
    }
  }

  /// The heads are a matrix with `inner` columns, which is transposed.
  int64_t moved(int64_t at, int64_t inner, int64_t outer) const {
    if (at < first || at >= end()) return at;
    const int64_t head = (at - first) / size, within = (at - first) % size;
    return first + (head % inner * outer + head / inner) * size + within;
  }
};

}  // namespace lowrank
