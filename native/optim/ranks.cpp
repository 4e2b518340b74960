#include "optim/ranks.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank {

/// A and B of slots of their own are all that has ranks, and copies of weights, which have none, all else that trains.
void check_ranks(const AdapterSpec& spec, const RankDraws& ranks) {
  if (ranks.active < 1 || ranks.active > static_cast<int64_t>(ranks.draws.size()))
    fail("CONFIG", "the optimizer's step has ", ranks.active, " ranks in use; expected 1 to ", ranks.draws.size());
  if (ranks.draws[ranks.active - 1] < 1 || std::any_of(ranks.draws.begin(), ranks.draws.end(), [](int64_t n) { return n < 0; }))
    fail("CONFIG", "the draws of the optimizer's step are not counts of steps with this one among them");
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
  for (const LowRankSlot& slot : spec.slots)
    for (const int index : {slot.a, slot.b}) {
      const ParameterSpec& p = spec.parameters[index];
      if (!p.trained) continue;
      for (const StateArray& array : state_arrays(p, spec.state))
        if (array.coded || array.count() != p.rows * p.cols)
          fail("CONFIG", "ranks are updated one by one, and the state of ", p.name, " is ",
               array.coded ? "in blocks that cross them" : "of all of them together",
               "; take an optimizer whose state is fp32, such as adamw");
    }
}

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

void update_ranks(Context& context, Adapter& adapter, const RankDraws& ranks, const UpdateRule& update, int only) {
  const AdapterSpec& spec = adapter.spec();
  const auto updates = [&](int parameter) { return spec.trains(parameter) && (only < 0 || only == parameter); };
  OptimizerState& state = adapter.state();
  // Throws here, where nothing else runs, for what is not in memory.
  std::vector<std::vector<StateView>> views(spec.parameters.size());
  for (const LowRankSlot& slot : spec.slots)
    for (const int index : {slot.a, slot.b})
      if (updates(index)) views[index] = state.views(index);
  context.pool.for_range(static_cast<int64_t>(spec.slots.size()), 1, [&](int64_t begin, int64_t end) {
    std::vector<std::vector<float>> columns;
    for (int64_t i = begin; i < end; ++i) {
      const LowRankSlot& slot = spec.slots[i];
      const auto [first, last] = ranks.of(slot.rank);
      for (int64_t j = first; j < last; ++j) {
        const int64_t count = ranks.count(j, slot.rank);
        if (updates(slot.a)) {
          const ParameterSpec& a = spec.parameters[slot.a];
          const int64_t row = j * a.cols;
          std::vector<StateView> of_row = views[slot.a];
          for (StateView& view : of_row) view = view.from(row);
          update(a.group, count, a.cols, adapter.data(slot.a, AdapterArray::gradient) + row, of_row,
                 adapter.data(slot.a) + row);
        }
        if (updates(slot.b)) {
          const ParameterSpec& b = spec.parameters[slot.b];
          std::vector<float*> arrays{adapter.data(slot.b, AdapterArray::gradient), adapter.data(slot.b)};
          for (const StateView& view : views[slot.b]) arrays.push_back(view.floats);
          columns.resize(arrays.size());
          for (size_t k = 0; k < arrays.size(); ++k) {
            columns[k].resize(b.rows);
            for (int64_t o = 0; o < b.rows; ++o) columns[k][o] = arrays[k][o * slot.rank + j];
          }
          std::vector<StateView> of_column;
          for (size_t k = 2; k < arrays.size(); ++k) of_column.push_back({columns[k].data(), {}});
          update(b.group, count, b.rows, columns[0].data(), of_column, columns[1].data());
          for (size_t k = 1; k < arrays.size(); ++k)
            for (int64_t o = 0; o < b.rows; ++o) arrays[k][o * slot.rank + j] = columns[k][o];
        }
      }
    }
  });
}

}  // namespace lowrank
