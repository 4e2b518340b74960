#include "grammar/grammar.h"

#include <string>

#include "check.h"

using namespace lowrank;

namespace {

std::shared_ptr<const Vocabulary> vocabulary(const std::vector<std::string>& tokens, int32_t special) {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> ends;
  for (const std::string& token : tokens) {
    bytes.insert(bytes.end(), token.begin(), token.end());
    ends.push_back(static_cast<int32_t>(bytes.size()));
  }
  std::vector<uint8_t> specials(tokens.size());
  specials[special] = 1;
  return std::make_shared<const Vocabulary>(bytes, ends, specials);
}

/// Nested parentheses around letters: S = '(' (S | [a-z]*) ')'. State 0 begins S, 3 ends it.
GrammarTables nested() {
  GrammarTables tables;
  tables.start = 0;
  tables.edge_begin = {0, 1, 3, 4, 4};
  tables.edge_low = {'(', ')', 'a', ')'};
  tables.edge_high = {'(', ')', 'z', ')'};
  tables.edge_to = {1, 3, 1, 3};
  tables.call_begin = {0, 0, 1, 1, 1};
  tables.call_start = {0};
  tables.call_to = {2};
  tables.accepts = {0, 0, 0, 1};
  return tables;
}

std::vector<int32_t> ids(const std::vector<uint64_t>& bits) {
  std::vector<int32_t> found;
  for (size_t id = 0; id < bits.size() * 64; ++id)
    if ((bits[id / 64] >> (id % 64) & 1) != 0) found.push_back(static_cast<int32_t>(id));
  return found;
}

}  // namespace

TEST("tokens are allowed by their bytes, across rules, and end tokens where the answer is whole") {
  const std::vector<std::string> tokens = {"(", ")", "a", "((", "))", "(a)", "ab)", ")))", "<end>", "", "A", "(("};
  const auto grammar = std::make_shared<Grammar>(nested(), vocabulary(tokens, 8));
  Matcher matcher(grammar, {8});
  using Ids = std::vector<int32_t>;
  CHECK(ids(matcher.allowed(70)) == (Ids{0, 3, 5, 11}));
  matcher.accept(3);  // ((
  CHECK(ids(matcher.allowed(70)) == (Ids{0, 1, 2, 3, 4, 5, 6, 11}));
  CHECK(ids(matcher.allowed(5)) == (Ids{0, 1, 2, 3, 4}));
  matcher.accept(6);  // ((ab)
  CHECK(ids(matcher.allowed(70)) == (Ids{1}));
  CHECK_THROWS(matcher.accept(2), "token 2 does not follow the format");
  Matcher other(grammar, {8, 90});
  other.accept(5);
  CHECK(ids(other.allowed(70)) == (Ids{8}));
  CHECK(ids(other.allowed(100)) == (Ids{8, 90}));
  other.accept(8);
  CHECK_THROWS(Matcher(grammar, {}), "no token that ends an answer");
}

TEST("tables that point outside of themselves are refused") {
  const auto tokens = vocabulary({"a", "<end>"}, 1);
  const auto refused = [&](auto&& change) {
    GrammarTables tables = nested();
    change(tables);
    CHECK_THROWS(Grammar(tables, tokens), "grammar");
  };
  refused([](GrammarTables& t) { t.start = 4; });
  refused([](GrammarTables& t) { t.edge_to[2] = -1; });
  refused([](GrammarTables& t) { t.call_start[0] = 4; });
  refused([](GrammarTables& t) { t.edge_begin[1] = 9; });
  refused([](GrammarTables& t) { t.edge_begin.pop_back(); });
  refused([](GrammarTables& t) { t.edge_low.pop_back(); });
  CHECK_THROWS(Vocabulary({1, 2}, {2, 1}, {0, 0}), "token 1 ends at byte 1");
  CHECK_THROWS(Vocabulary({1, 2}, {2}, {}), "tokens, but");
}
