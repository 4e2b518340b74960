#include <algorithm>
#include <cmath>

#include "backends/cpu/table.h"
#include "core/random.h"

namespace lowrank::cpu {

void reference(const Cpu&, const DrawRows& k) {
  float* const gains = host(k.gains);
  // Keys of other linears are a few draws apart; mixing them keeps their sequences from overlapping.
  const uint64_t key = mix(k.key);
  // Index 0 decides about the whole, index 1 + row about a row.
  if (k.drop_all > 0 && draw(key, 0) < k.drop_all) {
    std::fill(gains, gains + k.rows, 0.0f);
    return;
  }
  int64_t kept = 0;
  for (int64_t row = 0; row < k.rows; ++row) {
    const bool keep = k.drop_row == 0 || draw(key, static_cast<uint64_t>(row) + 1) >= k.drop_row;
    gains[row] = keep ? 1.0f : 0.0f;
    kept += keep;
  }
  if (!k.rescale || kept == 0) return;
  const float share = static_cast<float>(kept) / static_cast<float>(k.rows);
  for (int64_t row = 0; row < k.rows; ++row) gains[row] /= share;
}

void reference(const Cpu&, const AddRatios& k) {
  const float *m = host(k.m), *c = host(k.c);
  float* const gain = host(k.gain);
  for (int64_t i = 0; i < k.rows; ++i) gain[i] += k.weight * (m[i] / c[i]);
}

void reference(const Cpu&, const RatiosOver& k) {
  const float *m = host(k.m), *c = host(k.c);
  float *gain = host(k.gain), *over = host(k.over);
  for (int64_t i = 0; i < k.rows; ++i) {
    if (std::fabs(gain[i]) < 1e-12f) gain[i] = 1e-12f;
    over[i] = (m ? m[i] / c[i] : 1.0f) / gain[i];
  }
}

void reference(const Cpu&, const MagnitudeGains& k) {
  const float *m = host(k.m), *c = host(k.c);
  float *gain = host(k.gain), *share = host(k.share);
  for (int64_t i = 0; i < k.rows; ++i) {
    gain[i] = m[i] / c[i];
    share[i] = !k.of_scaled ? 1 / c[i] : m[i] == 0 ? 0 : 1 / m[i];
  }
}

}  // namespace lowrank::cpu
