#include "adapters/hadamard.h"

#include "core/error.h"

namespace lowrank {

PairRanks pair_ranks(const AdapterSpec& spec, const LowRankSlot& slot) {
  return {spec.parameters[slot.a].rows, spec.parameters[slot.a2].rows};
}

void check_pair(const AdapterSpec& spec, const LowRankSlot& slot) {
  const ParameterSpec &a = spec.parameters[slot.a], &b = spec.parameters[slot.b];
  const ParameterSpec &a2 = spec.parameters[slot.a2], &b2 = spec.parameters[slot.b2];
  const bool fit = a.rows == b.cols && a2.rows == b2.cols && a.cols == a2.cols && b.rows == b2.rows;
  if (!fit || slot.rank % a.rows != 0 || slot.rank / a.rows != a2.rows)
    fail("SHAPE", "adapter at ", slot.target, ": a pair of products [", b.rows, ", ", b.cols, "] x [", a.rows, ", ",
         a.cols, "] and [", b2.rows, ", ", b2.cols, "] x [", a2.rows, ", ", a2.cols, "] at rank ", slot.rank);
  if (slot.has_gains() || slot.magnitude >= 0 || slot.dropout > 0)
    fail("SHAPE", "adapter at ", slot.target, ": a pair of products takes no gains, no magnitude and no dropout of its input");
}

}  // namespace lowrank
