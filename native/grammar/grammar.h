// Grammars of answers: automata over bytes whose rules call one another, and the tokens that may come next. lib/grammar
// makes their tables.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/boundary.h"
#include "grammar/vocabulary.h"
#include "runtime/sampling.h"

namespace lowrank {

/// A rule that was called: where it goes on, on the calls around it.
class RuleCalls {
 public:
  static constexpr int32_t kNone = -1;
  /// The calls around the rule that a walk begins in, which it does not know.
  static constexpr int32_t kUnknown = -2;

  int32_t push(int32_t to, int32_t around);
  int32_t to(int32_t call) const { return calls_[call].first; }
  int32_t around(int32_t call) const { return calls_[call].second; }
  int32_t depth(int32_t call) const { return call < 0 ? 0 : depths_[call]; }

 private:
  std::vector<std::pair<int32_t, int32_t>> calls_;
  std::vector<int32_t> depths_;
  std::unordered_map<uint64_t, int32_t> known_;
};

/// A place in a grammar: a state, and the calls around its rule.
struct GrammarPlace {
  int32_t state;
  int32_t call;
  auto operator<=>(const GrammarPlace&) const = default;
};

class Grammar {
 public:
  /// Throws Error("CONFIG") for tables that point outside of themselves.
  Grammar(GrammarTables tables, std::shared_ptr<const Vocabulary> vocabulary);

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  int32_t start() const { return tables_.start; }

  /// Adds the places that are reached without a byte. @param ended is set if the text so far is a whole one @param left
  /// is set if the rule ends that a walk began in
  void close(std::vector<GrammarPlace>& places, RuleCalls& calls, bool& ended, bool& left) const;
  /// The places after a byte.
  void step(const std::vector<GrammarPlace>& places, uint8_t byte, RuleCalls& calls, std::vector<GrammarPlace>& next,
            bool& ended, bool& left) const;
  /// Sets the bits of tokens that may come next.
  void allow(const std::vector<GrammarPlace>& places, RuleCalls& calls, std::vector<uint64_t>& bits);

 private:
  /// Tokens that may come in a state, whatever is around its rule: those that end in it, and the beginnings of tokens
  /// that leave it.
  struct Inner {
    std::vector<uint64_t> bits;
    std::vector<int32_t> left;
  };
  const Inner& inner(int32_t state);
  template <class Leave>
  void walk(int32_t first, int32_t end, const std::vector<GrammarPlace>& from, RuleCalls& calls,
            std::vector<uint64_t>& bits, Leave&& leave);

  GrammarTables tables_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<bool> wide_;  // states in which most tokens may come
  std::mutex mutex_;        // of `inner_`, since answers of several threads may share a grammar
  std::map<int32_t, Inner> inner_;
};

/// One answer that follows a grammar.
class Matcher : public TokenRules {
 public:
  /// @param ends tokens that end an answer, of which there must be one
  Matcher(std::shared_ptr<Grammar> grammar, std::vector<int32_t> ends);

  const std::vector<uint64_t>& allowed(int64_t vocab) override;
  /// Throws Error("CONFIG") for a token that is not allowed.
  void accept(int32_t token) override;

 private:
  std::shared_ptr<Grammar> grammar_;
  std::vector<int32_t> ends_;
  RuleCalls calls_;
  std::vector<GrammarPlace> places_;
  bool whole_ = false;  // the answer may end here
  std::vector<uint64_t> bits_;
};

}  // namespace lowrank
