#include "adapters/hadamard.h"

#include <algorithm>

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

void build_pair_a(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, float* out) {
  const int64_t second = pair_ranks(adapter.spec(), slot).second, in = adapter.spec().parameters[slot.a].cols;
  for (int64_t row = begin; row < end; ++row) {
    const float* a = adapter.data(slot.a) + row / second * in;
    const float* a2 = adapter.data(slot.a2) + row % second * in;
    float* __restrict to = out + row * in;
    for (int64_t c = 0; c < in; ++c) to[c] = a[c] * a2[c];
  }
}

void fold_pair(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, float* out, float weight,
               const float* row_gains) {
  const auto [first, second] = pair_ranks(adapter.spec(), slot);
  for (int64_t o = begin; o < end; ++o) {
    const float* b = adapter.data(slot.b) + o * first;
    const float* b2 = adapter.data(slot.b2) + o * second;
    const float row = weight * slot.scale * (row_gains ? row_gains[o] : 1);
    float* __restrict to = out + o * slot.rank;
    for (int64_t i = 0; i < first; ++i) {
      const float factor = row * b[i];
      for (int64_t j = 0; j < second; ++j) to[i * second + j] = factor * b2[j];
    }
  }
}

void spread_pair_a(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, const float* g) {
  const auto [first, second] = pair_ranks(adapter.spec(), slot);
  const int64_t in = adapter.spec().parameters[slot.a].cols;
  float* da = adapter.data(slot.a, AdapterArray::gradient);
  float* da2 = adapter.data(slot.a2, AdapterArray::gradient);
  for (int64_t i = 0; i < first; ++i)
    for (int64_t j = 0; j < second; ++j) {
      const float* row = g + (i * second + j) * in;
      const float* a = adapter.data(slot.a) + i * in;
      const float* a2 = adapter.data(slot.a2) + j * in;
      if (float* __restrict to = da ? da + i * in : nullptr)
        for (int64_t c = begin; c < end; ++c) to[c] += row[c] * a2[c];
      if (float* __restrict to = da2 ? da2 + j * in : nullptr)
        for (int64_t c = begin; c < end; ++c) to[c] += row[c] * a[c];
    }
}

void spread_pair_b(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, const float* g,
                   const float* row_gains) {
  const auto [first, second] = pair_ranks(adapter.spec(), slot);
  float* db = adapter.data(slot.b, AdapterArray::gradient);
  float* db2 = adapter.data(slot.b2, AdapterArray::gradient);
  for (int64_t o = begin; o < end; ++o) {
    const float gain = slot.scale * (row_gains ? row_gains[o] : 1);
    const float* b = adapter.data(slot.b) + o * first;
    const float* b2 = adapter.data(slot.b2) + o * second;
    for (int64_t i = 0; i < first; ++i) {
      const float* row = g + o * slot.rank + i * second;
      if (float* __restrict to = db2 ? db2 + o * second : nullptr) {
        const float factor = gain * b[i];
        for (int64_t j = 0; j < second; ++j) to[j] += factor * row[j];
      }
      if (!db) continue;
      float sums[4] = {};  // four at a time: one sum waits for itself
      for (int64_t j = 0; j < second; ++j) sums[j % 4] += row[j] * b2[j];
      db[o * first + i] += gain * (sums[0] + sums[1] + sums[2] + sums[3]);
    }
  }
}

void draw_row_gains(const DeltaDropout& dropout, uint64_t key, int64_t rows, float* gains) {
  // Keys of other linears differ by a few multiples of what the draws are apart; mixed, the draws share no run.
  key = mix(key);
  // Index 0 decides about the whole, index 1 + row about a row.
  if (dropout.all > 0 && draw(key, 0) < dropout.all) {
    std::fill(gains, gains + rows, 0.0f);
    return;
  }
  int64_t kept = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const bool keep = dropout.rows == 0 || draw(key, static_cast<uint64_t>(row) + 1) >= dropout.rows;
    gains[row] = keep ? 1.0f : 0.0f;
    kept += keep;
  }
  if (!dropout.rescale || kept == 0) return;
  const float share = static_cast<float>(kept) / static_cast<float>(rows);
  for (int64_t row = 0; row < rows; ++row) gains[row] /= share;
}

}  // namespace lowrank
