#include "graph/adapter_spec.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace lowrank {

bool AdapterSpec::blends_examples() const {
  return !copies.empty() || std::any_of(slots.begin(), slots.end(), [](const LowRankSlot& s) { return s.embedding; });
}

int64_t LowRankSlot::ranks(int64_t wanted) const {
  if (wanted <= 0 || wanted >= rank) return rank;
  if (paired() || magnitude >= 0)
    fail("CONFIG", "adapter at ", target, ": a ", paired() ? "pair of products" : "magnitude", " goes with the whole rank of ",
         rank, ", not with ", wanted, " of it");
  return wanted;
}

float LowRankSlot::scale_at(int64_t active) const {
  if (active == rank || rank_power == 0) return scale;
  return static_cast<float>(scale * std::pow(static_cast<double>(rank) / static_cast<double>(active), rank_power));
}

}  // namespace lowrank
