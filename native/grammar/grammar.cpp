#include "grammar/grammar.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank {
namespace {

// Bounds on what a malicious schema may cost: places at a time, nested calls, and states whose tokens are remembered.
constexpr size_t kMostPlaces = 512;
constexpr int32_t kMostDepth = 256;
constexpr size_t kMostInnerBytes = size_t{32} << 20;

void check_list(const std::vector<int32_t>& begin, size_t states, size_t count, const char* what) {
  if (begin.size() != states + 1 || begin.front() != 0 || begin.back() != static_cast<int64_t>(count) ||
      !std::is_sorted(begin.begin(), begin.end()))
    fail("CONFIG", "the ", what, " of a grammar are not those of its states");
}

void check_states(const std::vector<int32_t>& states, size_t count) {
  for (const int32_t state : states)
    if (state < 0 || state >= static_cast<int64_t>(count)) fail("CONFIG", "a grammar has no state ", state);
}

void set_bits(const Vocabulary& vocabulary, const Vocabulary::Node& node, std::vector<uint64_t>& bits) {
  for (int32_t i = 0; i < node.count; ++i) {
    const int32_t token = vocabulary.tokens()[node.first_token + i];
    bits[token / 64] |= uint64_t{1} << (token % 64);
  }
}

size_t words(const Vocabulary& vocabulary) { return static_cast<size_t>((vocabulary.size() + 63) / 64); }

}  // namespace

int32_t RuleCalls::push(int32_t to, int32_t around) {
  const uint64_t key = static_cast<uint64_t>(static_cast<uint32_t>(to)) << 32 | static_cast<uint32_t>(around);
  const auto [found, added] = known_.emplace(key, static_cast<int32_t>(calls_.size()));
  if (added) {
    calls_.emplace_back(to, around);
    depths_.push_back(depth(around) + 1);
  }
  return found->second;
}

Grammar::Grammar(GrammarTables tables, std::shared_ptr<const Vocabulary> vocabulary)
    : tables_(std::move(tables)), vocabulary_(std::move(vocabulary)) {
  const GrammarTables& t = tables_;
  const size_t states = t.accepts.size();
  check_list(t.edge_begin, states, t.edge_to.size(), "edges");
  check_list(t.call_begin, states, t.call_to.size(), "calls");
  if (t.edge_low.size() != t.edge_to.size() || t.edge_high.size() != t.edge_to.size() ||
      t.call_start.size() != t.call_to.size())
    fail("CONFIG", "the tables of a grammar have different lengths");
  check_states(t.edge_to, states);
  check_states(t.call_to, states);
  check_states(t.call_start, states);
  check_states({t.start}, states);
  wide_.resize(states);
  for (size_t state = 0; state < states; ++state)
    for (int32_t e = t.edge_begin[state]; e < t.edge_begin[state + 1]; ++e)
      if (t.edge_low[e] < 0x80 && std::min(t.edge_high[e], 0x7f) - t.edge_low[e] + 1 >= 32) wide_[state] = true;
}

void Grammar::close(std::vector<GrammarPlace>& places, RuleCalls& calls, bool& ended, bool& left) const {
  const GrammarTables& t = tables_;
  const auto add = [&](GrammarPlace place) {
    if (std::find(places.begin(), places.end(), place) != places.end()) return;
    if (places.size() >= kMostPlaces)
      fail("UNSUPPORTED", "the format of the answer can be read in more than ", kMostPlaces, " ways at a time");
    places.push_back(place);
  };
  for (size_t i = 0; i < places.size(); ++i) {
    const GrammarPlace place = places[i];
    for (int32_t c = t.call_begin[place.state]; c < t.call_begin[place.state + 1]; ++c) {
      const int32_t to = t.call_to[c];
      // A rule that goes on nowhere needs no return, so that lists by recursion take no room.
      const bool last =
          t.accepts[to] != 0 && t.edge_begin[to] == t.edge_begin[to + 1] && t.call_begin[to] == t.call_begin[to + 1];
      if (!last && calls.depth(place.call) >= kMostDepth) continue;
      add({t.call_start[c], last ? place.call : calls.push(to, place.call)});
    }
    if (t.accepts[place.state] == 0) continue;
    if (place.call == RuleCalls::kNone)
      ended = true;
    else if (place.call == RuleCalls::kUnknown)
      left = true;
    else
      add({calls.to(place.call), calls.around(place.call)});
  }
  // Places without edges have done their part.
  std::erase_if(places, [&](const GrammarPlace& p) { return t.edge_begin[p.state] == t.edge_begin[p.state + 1]; });
}

void Grammar::step(const std::vector<GrammarPlace>& places, uint8_t byte, RuleCalls& calls,
                   std::vector<GrammarPlace>& next, bool& ended, bool& left) const {
  const GrammarTables& t = tables_;
  next.clear();
  bool plain = true;
  for (const GrammarPlace& place : places) {
    const int32_t* const first = t.edge_high.data() + t.edge_begin[place.state];
    const int32_t* const last = t.edge_high.data() + t.edge_begin[place.state + 1];
    const int32_t* const found = std::lower_bound(first, last, static_cast<int32_t>(byte));
    if (found == last) continue;
    const auto e = found - t.edge_high.data();
    if (t.edge_low[e] > byte) continue;
    const int32_t to = t.edge_to[e];
    next.push_back({to, place.call});
    plain = plain && t.accepts[to] == 0 && t.call_begin[to] == t.call_begin[to + 1];
  }
  if (plain && next.size() <= 1) return;
  std::sort(next.begin(), next.end());
  next.erase(std::unique(next.begin(), next.end()), next.end());
  close(next, calls, ended, left);
}

template <class Leave>
void Grammar::walk(int32_t first, int32_t end, const std::vector<GrammarPlace>& from, RuleCalls& calls,
                   std::vector<uint64_t>& bits, Leave&& leave) {
  const std::vector<Vocabulary::Node>& nodes = vocabulary_->nodes();
  if (first >= end) return;
  const int32_t top = nodes[first].depth;
  std::vector<std::vector<GrammarPlace>> places{from};
  for (int32_t node = first; node < end;) {
    const size_t depth = static_cast<size_t>(nodes[node].depth - top);
    if (places.size() < depth + 2) places.emplace_back();
    bool ended = false, left = false;
    step(places[depth], nodes[node].byte, calls, places[depth + 1], ended, left);
    if (left) leave(node);
    const bool goes_on = !places[depth + 1].empty();
    if (goes_on || ended || left) set_bits(*vocabulary_, nodes[node], bits);
    node = goes_on ? node + 1 : nodes[node].end;
  }
}

const Grammar::Inner& Grammar::inner(int32_t state) {
  const auto found = inner_.find(state);
  if (found != inner_.end()) return found->second;
  if ((inner_.size() + 1) * words(*vocabulary_) * 8 > kMostInnerBytes) inner_.clear();
  Inner& made = inner_[state];
  made.bits.assign(words(*vocabulary_), 0);
  RuleCalls calls;
  const auto nodes = static_cast<int32_t>(vocabulary_->nodes().size());
  walk(0, nodes, {{state, RuleCalls::kUnknown}}, calls, made.bits, [&](int32_t node) { made.left.push_back(node); });
  return made;
}

void Grammar::allow(const std::vector<GrammarPlace>& places, RuleCalls& calls, std::vector<uint64_t>& bits) {
  const auto nowhere = [](int32_t) {};
  std::vector<GrammarPlace> narrow;
  for (const GrammarPlace& place : places) {
    if (!wide_[place.state]) {
      narrow.push_back(place);
      continue;
    }
    const std::lock_guard lock(mutex_);
    const Inner& tokens = inner(place.state);
    for (size_t word = 0; word < tokens.bits.size(); ++word) bits[word] |= tokens.bits[word];
    if (place.call == RuleCalls::kNone || tokens.left.empty()) continue;
    std::vector<GrammarPlace> around{{calls.to(place.call), calls.around(place.call)}};
    bool ended = false, left = false;
    close(around, calls, ended, left);
    if (around.empty()) continue;
    for (const int32_t node : tokens.left) walk(node + 1, vocabulary_->nodes()[node].end, around, calls, bits, nowhere);
  }
  if (!narrow.empty()) walk(0, static_cast<int32_t>(vocabulary_->nodes().size()), narrow, calls, bits, nowhere);
}

Matcher::Matcher(std::shared_ptr<Grammar> grammar, std::vector<int32_t> ends)
    : grammar_(std::move(grammar)), ends_(std::move(ends)), places_{{grammar_->start(), RuleCalls::kNone}} {
  if (ends_.empty()) fail("CONFIG", "the model has no token that ends an answer, which one in a format needs");
  for (const int32_t end : ends_)
    if (end < 0) fail("CONFIG", "token ", end, " cannot end an answer");
  bool left = false;
  grammar_->close(places_, calls_, whole_, left);
}

const std::vector<uint64_t>& Matcher::allowed(int64_t vocab) {
  const Vocabulary& vocabulary = grammar_->vocabulary();
  bits_.assign(static_cast<size_t>((std::max(vocab, vocabulary.size()) + 63) / 64), 0);
  grammar_->allow(places_, calls_, bits_);
  for (const int32_t end : ends_) {
    if (end >= vocab) continue;
    uint64_t& word = bits_[end / 64];
    const uint64_t bit = uint64_t{1} << (end % 64);
    word = whole_ ? word | bit : word & ~bit;
  }
  // The tokenizer may have more tokens than the model has logits.
  bits_.resize(static_cast<size_t>((vocab + 63) / 64));
  if (vocab % 64 != 0 && !bits_.empty()) bits_.back() &= (uint64_t{1} << (vocab % 64)) - 1;
  return bits_;
}

void Matcher::accept(int32_t token) {
  if (std::find(ends_.begin(), ends_.end(), token) != ends_.end()) return;
  const Vocabulary& vocabulary = grammar_->vocabulary();
  bool ended = false;
  if (token >= 0 && token < vocabulary.size() && vocabulary.begin(token) != vocabulary.end(token)) {
    std::vector<GrammarPlace> next;
    for (const uint8_t* byte = vocabulary.begin(token); byte != vocabulary.end(token); ++byte) {
      bool left = false;
      ended = false;
      grammar_->step(places_, *byte, calls_, next, ended, left);
      places_.swap(next);
    }
  } else {
    places_.clear();
  }
  whole_ = ended;
  if (places_.empty() && !whole_) fail("CONFIG", "token ", token, " does not follow the format of the answer");
}

}  // namespace lowrank
