#include "optim/ranks.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank {

/// A and B of terms of their own are all that has ranks, and copies of weights, which have none, all else that trains.
void check_ranks(const AdapterSpec& spec, const RankDraws& ranks) {
  if (ranks.active < 1 || ranks.active > static_cast<int64_t>(ranks.draws.size()))
    fail("CONFIG", "the optimizer's step has ", ranks.active, " ranks in use; expected 1 to ", ranks.draws.size());
  if (ranks.draws[ranks.active - 1] < 1 ||
      std::any_of(ranks.draws.begin(), ranks.draws.end(), [](int64_t n) { return n < 0; }))
    fail("CONFIG", "the draws of the optimizer's step must be counts of steps that include this step");
  std::vector<int> uses(spec.parameters.size(), 0);
  for (size_t i = 0; i < spec.facts.size(); ++i) {
    const TermFacts& term = spec.facts[i];
    if (term.a < 0) fail("CONFIG", "updates by rank support only A and B, unlike at ", spec.terms[i].target);
    ++uses[term.a];
    ++uses[term.b];
  }
  for (const WeightCopy& copy : spec.copies) ++uses[copy.parameter];
  for (size_t i = 0; i < uses.size(); ++i)
    if (spec.trains(static_cast<int>(i)) && uses[i] != 1)
      fail("CONFIG", "parameter ", spec.parameters[i].name, " is ",
           uses[i] == 0 ? "not a factor or copy" : "used twice",
           "; updates by rank support only A and B of one module each");
  for (const TermFacts& term : spec.facts)
    for (const int index : {term.a, term.b}) {
      const ParameterSpec& p = spec.parameters[index];
      if (!p.trained) continue;
      for (const StateArray& array : state_arrays(p, spec.state))
        if (array.coded || array.count() != p.rows * p.cols)
          fail("CONFIG", "updates by rank are not possible because the state of ", p.name, " is ",
               array.coded ? "stored in blocks that span ranks" : "shared by all ranks",
               "; use an optimizer with fp32 state, such as adamw");
    }
}

RankRange trained_of(const TrainedRanks& ranks, int64_t rank) {
  const int64_t end = ranks.active > 0 ? std::min(ranks.active, rank) : rank;
  return {ranks.last_only ? end - 1 : 0, end};
}

int64_t count_of(const RankDraws& ranks, int64_t index, int64_t rank) {
  int64_t sum = 0;
  for (int64_t b = index; b < static_cast<int64_t>(ranks.draws.size()); ++b)
    if (!ranks.last_only || b == index || index == rank - 1) sum += ranks.draws[b];
  return sum;
}

void add_ranks(std::vector<UpdatePiece>& pieces, const RankDraws& ranks, int64_t rank, const UpdatePiece& whole,
               bool columns) {
  const int64_t count = whole.count / rank;
  const auto [first, last] = trained_of(ranks, rank);
  for (int64_t j = first; j < last; ++j) {
    const auto moved = [from = columns ? j : j * count](Ptr<float> at) { return at ? at + from : at; };
    UpdatePiece piece = whole;
    piece.count = count;
    piece.stride = columns ? rank : 1;
    piece.p = moved(whole.p);
    piece.gradient = moved(whole.gradient);
    piece.m.floats = moved(whole.m.floats);
    piece.v.floats = moved(whole.v.floats);
    piece.step = count_of(ranks, j, rank);
    pieces.push_back(piece);
  }
}

}  // namespace lowrank
