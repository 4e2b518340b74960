#include "optim/ranks.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank {
namespace {

/// A and B of slots of their own are all that has ranks, and copies of weights, which have none, all else that trains.
void check(const AdapterSpec& spec, const RankDraws& ranks) {
  if (ranks.active < 1 || ranks.active > static_cast<int64_t>(ranks.draws.size()))
    fail("CONFIG", "the optimiser's step has ", ranks.active, " ranks in use; expected 1 to ", ranks.draws.size());
  if (ranks.draws[ranks.active - 1] < 1 || std::any_of(ranks.draws.begin(), ranks.draws.end(), [](int64_t n) { return n < 0; }))
    fail("CONFIG", "the draws of the optimiser's step are not counts of steps with this one among them");
  std::vector<int> uses(spec.parameters.size(), 0);
  for (const LowRankSlot& slot : spec.slots) {
    if (slot.paired()) fail("CONFIG", "ranks are updated one by one only in A and B, unlike at ", slot.target);
    ++uses[slot.a];
    ++uses[slot.b];
  }
  for (const WeightCopy& copy : spec.copies) ++uses[copy.parameter];
  for (size_t i = 0; i < uses.size(); ++i)
    if (spec.trains(static_cast<int>(i)) && uses[i] != 1)
      fail("CONFIG", "parameter ", spec.parameters[i].name, " is ", uses[i] == 0 ? "no factor or copy" : "used twice",
           "; ranks are updated one by one only in A and B of one module each");
}

}  // namespace

TrainedRanks::Range TrainedRanks::of(int64_t rank) const {
  const int64_t end = active > 0 ? std::min(active, rank) : rank;
  return {last_only ? end - 1 : 0, end};
}

int64_t RankDraws::count(int64_t index, int64_t rank) const {
  int64_t sum = 0;
  for (int64_t b = index; b < static_cast<int64_t>(draws.size()); ++b)
    if (!last_only || b == index || index == rank - 1) sum += draws[b];
  return sum;
}

void update_ranks(Context& context, Adapter& adapter, const RankDraws& ranks, const UpdateRule& update) {
  const AdapterSpec& spec = adapter.spec();
  check(spec, ranks);
  constexpr AdapterArray kArrays[] = {AdapterArray::gradient, AdapterArray::m, AdapterArray::v, AdapterArray::value};
  context.pool.for_range(static_cast<int64_t>(spec.slots.size()), 1, [&](int64_t begin, int64_t end) {
    Pool alone(1);  // the slots are shared out among the threads, not the numbers of one
    std::vector<float> column[4];
    for (int64_t i = begin; i < end; ++i) {
      const LowRankSlot& slot = spec.slots[i];
      const auto [first, last] = ranks.of(slot.rank);
      for (int64_t j = first; j < last; ++j) {
        const int64_t count = ranks.count(j, slot.rank);
        if (spec.trains(slot.a)) {
          const ParameterSpec& a = spec.parameters[slot.a];
          float* row[4];
          for (int k = 0; k < 4; ++k) row[k] = adapter.data(slot.a, kArrays[k]) + j * a.cols;
          update(alone, a.group, count, a.cols, row[0], row[1], row[2], row[3]);
        }
        if (spec.trains(slot.b)) {
          const ParameterSpec& b = spec.parameters[slot.b];
          for (int k = 0; k < 4; ++k) {
            const float* const from = adapter.data(slot.b, kArrays[k]) + j;
            column[k].resize(b.rows);
            for (int64_t o = 0; o < b.rows; ++o) column[k][o] = from[o * slot.rank];
          }
          update(alone, b.group, count, b.rows, column[0].data(), column[1].data(), column[2].data(), column[3].data());
          for (int k = 1; k < 4; ++k) {
            float* const to = adapter.data(slot.b, kArrays[k]) + j;
            for (int64_t o = 0; o < b.rows; ++o) to[o * slot.rank] = column[k][o];
          }
        }
      }
    }
  });
}

}  // namespace lowrank
