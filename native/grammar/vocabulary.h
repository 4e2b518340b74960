// The tokens of a tokenizer as a trie of their bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace lowrank {

/// Before the id of a special token in the trie, which no text can spell: UTF-8 does not have this byte.
inline constexpr uint8_t kTokenByte = 0xff;

class Vocabulary {
 public:
  /// A node for each beginning of a token but the empty one, in the order of a walk: the nodes below a node follow it,
  /// up to `end`.
  struct Node {
    uint8_t byte;
    int32_t depth;  // bytes up to and including this one
    int32_t end;
    int32_t first_token;  // tokens that end here are tokens()[first_token] to tokens()[first_token + count - 1]
    int32_t count;
  };

  /// @param bytes of all tokens, one after the other @param ends of each token in them @param special 1 for tokens that
  /// no text has, which are spelled kTokenByte and their id in four bytes
  /// Throws Error("CONFIG") for lists of different lengths, or ends out of order.
  Vocabulary(std::vector<uint8_t> bytes, std::vector<int32_t> ends, const std::vector<uint8_t>& special);

  int64_t size() const { return static_cast<int64_t>(begins_.size()) - 1; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  /// Bytes of a token as they are in the trie; none for one without a text.
  const uint8_t* begin(int32_t token) const { return bytes_.data() + begins_[token]; }
  const uint8_t* end(int32_t token) const { return bytes_.data() + begins_[token + 1]; }

 private:
  std::vector<uint8_t> bytes_;
  std::vector<int32_t> begins_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
};

}  // namespace lowrank
