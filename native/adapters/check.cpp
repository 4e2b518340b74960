#include "adapters/check.h"

#include <unordered_set>

#include "adapters/hadamard.h"
#include "adapters/kronecker.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 40;  // of one parameter: no sum or product of sizes leaves 64 bits
constexpr int64_t kMostRank = int64_t{1} << 24;

/// A and B of slots of their own and copies of weights are all that trains, so that it is known which coordinates a
/// contribution has at some ranks.
void check_private(const AdapterSpec& spec) {
  std::vector<int> uses(spec.parameters.size(), 0);
  for (const LowRankSlot& slot : spec.slots) {
    if (slot.has_gains() || slot.paired() || slot.magnitude >= 0)
      fail("SHAPE", "adapter at ", slot.target, ": only A and B, without gains, are trained privately");
    ++uses[slot.a];
    ++uses[slot.b];
  }
  for (const WeightCopy& copy : spec.copies) ++uses[copy.parameter];
  for (size_t i = 0; i < uses.size(); ++i)
    if (spec.parameters[i].trained && uses[i] != 1)
      fail("SHAPE", "adapter parameter ", spec.parameters[i].name, " is ",
           uses[i] == 0 ? "no factor or copy" : "used twice",
           "; only A and B of one module each and copies of weights are trained privately");
}

}  // namespace

void check_adapter(AdapterSpec& spec) {
  std::unordered_set<std::string> names;
  spec.elements = spec.trained_elements = 0;
  for (const bool trained : {true, false}) {
    for (ParameterSpec& p : spec.parameters) {
      if (p.trained != trained) continue;
      if (p.rows <= 0 || p.cols <= 0 || p.rows > kMostElements / p.cols)
        fail("SHAPE", "adapter parameter ", p.name, " is [", p.rows, ", ", p.cols,
             "]; expected positive dimensions and at most 2^40 elements");
      if (!names.insert(p.name).second) fail("SHAPE", "adapter parameter ", p.name, " is declared twice");
      p.offset = spec.elements;
      spec.elements += p.rows * p.cols;
    }
    if (trained) spec.trained_elements = spec.elements;
  }
  for (const WeightCopy& copy : spec.copies)
    if (copy.parameter < 0 || copy.parameter >= static_cast<int>(spec.parameters.size()))
      fail("SHAPE", "adapter: the copy of ", copy.weight, " names no parameter");
  for (const GradientProjection& projection : spec.projections) {
    const int count = static_cast<int>(spec.parameters.size());
    if (projection.a < 0 || projection.b < 0 || projection.a >= count || projection.b >= count)
      fail("SHAPE", "adapter: a projection names no parameter");
    const ParameterSpec& a = spec.parameters[projection.a];
    const ParameterSpec& b = spec.parameters[projection.b];
    if (a.trained || !b.trained || a.rows != b.cols || !(projection.scale != 0))
      fail("SHAPE", "adapter: the gradient of ", b.name, " [", b.rows, ", ", b.cols, "] cannot be projected by ", a.name,
           " [", a.rows, ", ", a.cols, "] at scale ", projection.scale,
           "; expected a trained B, a frozen A and the same rank");
  }
  spec.norm_rows = 0;
  spec.tracked_elements = 0;
  for (ParameterSpec& p : spec.parameters) p.tracked = -1;
  for (const TripletSpec& triplet : spec.triplets) {
    for (const int index : {triplet.a, triplet.d, triplet.b}) {
      if (index < 0 || index >= static_cast<int>(spec.parameters.size())) fail("SHAPE", "adapter: a triplet names no parameter");
      ParameterSpec& p = spec.parameters[index];
      if (!p.trained) fail("SHAPE", "adapter: ", p.name, " is in a triplet and does not train");
      if (p.tracked >= 0) fail("SHAPE", "adapter: ", p.name, " is in two triplets");
      p.tracked = spec.tracked_elements;
      spec.tracked_elements += p.rows * p.cols;
    }
    const ParameterSpec &a = spec.parameters[triplet.a], &d = spec.parameters[triplet.d], &b = spec.parameters[triplet.b];
    if (d.rows != 1 || d.cols != a.rows || d.cols != b.cols)
      fail("SHAPE", "adapter: ", a.name, " [", a.rows, ", ", a.cols, "], ", d.name, " [", d.rows, ", ", d.cols, "] and ",
           b.name, " [", b.rows, ", ", b.cols, "] are no triplet; expected [rank, in], [1, rank] and [out, rank]");
    const auto mean = [](float beta) { return beta >= 0 && beta < 1; };
    if (!mean(triplet.beta1) || !mean(triplet.beta2) || !(triplet.orthogonal >= 0))
      fail("SHAPE", "adapter: the triplet of ", a.name, " has beta1 ", triplet.beta1, ", beta2 ", triplet.beta2,
           " and orthogonal ", triplet.orthogonal, "; expected two numbers in [0, 1) and one from 0");
  }
  for (LowRankSlot& slot : spec.slots) {
    if (slot.rank <= 0 || slot.rank > kMostRank)
      fail("SHAPE", "adapter at ", slot.target, ": rank is ", slot.rank, "; expected 1 to ", kMostRank);
    if (slot.a < 0 || slot.b < 0) fail("SHAPE", "adapter at ", slot.target, " needs both A and B");
    const auto expect = [&](int index, const char* factor, int64_t rows, int64_t cols) {
      if (index < 0) return;
      const ParameterSpec& p = spec.parameters[index];
      if ((rows >= 0 && p.rows != rows) || (cols >= 0 && p.cols != cols))
        fail("SHAPE", "adapter at ", slot.target, ": ", factor, " (", p.name, ") is [", p.rows, ", ", p.cols,
             "] at rank ", slot.rank);
    };
    if (slot.paired() != (slot.b2 >= 0)) fail("SHAPE", "adapter at ", slot.target, " needs both a2 and b2, or neither");
    if (slot.paired()) {
      check_pair(spec, slot);
    } else {
      expect(slot.a, "A", slot.rank, -1);
      expect(slot.b, "B", -1, slot.rank);
    }
    expect(slot.d, "d", 1, slot.rank);
    expect(slot.mask, "mask", 1, slot.rank);
    const int64_t rows = spec.parameters[slot.b].trained ? spec.parameters[slot.b].rows : -1;
    expect(slot.b_gain, "b_gain", 1, rows);
    expect(slot.magnitude, "magnitude", 1, rows);
    if (slot.magnitude >= 0) {
      slot.norms = spec.norm_rows;
      spec.norm_rows += spec.parameters[slot.magnitude].cols;
    }
    if (slot.mask >= 0 && spec.parameters[slot.mask].trained)
      fail("SHAPE", "adapter at ", slot.target, ": the mask cannot be trained");
    const int count = (slot.snapshot_a >= 0) + (slot.snapshot_b >= 0) + (slot.snapshot_ratio >= 0);
    if (count != 0) {
      if (count != 3 || slot.has_gains() || slot.paired() || slot.magnitude >= 0 || slot.delta_dropout.any() || slot.dropout != 0 ||
          slot.rank_power != 0)
        fail("SHAPE", "adapter at ", slot.target, ": a snapshot has A*, B* and a ratio, and goes with A and B alone");
      expect(slot.snapshot_a, "A*", slot.rank, spec.parameters[slot.a].cols);
      expect(slot.snapshot_b, "B*", spec.parameters[slot.b].rows, slot.rank);
      expect(slot.snapshot_ratio, "the snapshot's ratio", 1, 1);
      for (const int index : {slot.snapshot_a, slot.snapshot_b, slot.snapshot_ratio})
        if (spec.parameters[index].trained)
          fail("SHAPE", "adapter at ", slot.target, ": ", spec.parameters[index].name, " is of a snapshot and cannot be trained");
    }
    if (!(slot.dropout >= 0 && slot.dropout < 1))
      fail("SHAPE", "adapter at ", slot.target, ": dropout is ", slot.dropout, "; expected 0 <= p < 1");
    check_dropout(slot.delta_dropout, slot.target);
    if (slot.embedding && !slot.plain())
      fail("SHAPE", "adapter at ", slot.target, ": an embedding takes A and B alone, without dropout");
    if (slot.delta_dropout.any() && !slot.paired())
      fail("SHAPE", "adapter at ", slot.target, ": rows of the change are dropped only of a pair of products");
  }
  for (const KroneckerSlot& slot : spec.kroneckers) check_kronecker(spec, slot);
  if (spec.privacy != Privacy::none) check_private(spec);
}

void check_dropout(const DeltaDropout& dropout, const std::string& target) {
  for (const float p : {dropout.rows, dropout.all})
    if (!(p >= 0 && p < 1))
      fail("SHAPE", "adapter at ", target, ": dropout of its change is ", p, "; expected 0 <= p < 1");
}

bool fits(const AdapterSpec& spec, const LowRankSlot& slot, int64_t out, int64_t in) {
  const ParameterSpec &a = spec.parameters[slot.a], &b = spec.parameters[slot.b];
  if (slot.paired()) return a.cols == in && b.rows == out;
  return (a.trained ? a.cols == in : a.cols >= in) && (b.trained ? b.rows == out : b.rows >= out) &&
         (slot.b_gain < 0 || spec.parameters[slot.b_gain].cols == out) &&
         (slot.magnitude < 0 || spec.parameters[slot.magnitude].cols == out);
}

}  // namespace lowrank
