#include "device.cuh"
#include "gains.h"
#include "random.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE int64_t element() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

}  // namespace

/// One block. Index 0 decides about the whole, index 1 + row about a row.
LOWRANK_KERNEL(draw_rows, DrawRowsArgs, kDrawThreads, 1) {
  const bool none = args.drop_all > 0 && draw(args.key, 0) < args.drop_all;
  int kept = 0;
  for (int64_t row = threadIdx.x; row < args.rows; row += kDrawThreads) {
    const bool keep = !none && (args.drop_row == 0 || draw(args.key, static_cast<uint64_t>(row) + 1) >= args.drop_row);
    args.gains[row] = keep ? 1.0f : 0.0f;
    kept += keep;
  }
  if (!args.rescale || none) return;
  kept = block_sum(kept);
  if (kept == 0) return;
  const float share = static_cast<float>(kept) / static_cast<float>(args.rows);
  for (int64_t row = threadIdx.x; row < args.rows; row += kDrawThreads) args.gains[row] /= share;
}

LOWRANK_KERNEL(add_ratios, RatiosArgs, kGainThreads, 4) {
  const int64_t i = element();
  if (i < args.rows) args.gain[i] += args.weight * (args.m[i] / args.c[i]);
}

LOWRANK_KERNEL(ratios_over, RatiosArgs, kGainThreads, 4) {
  const int64_t i = element();
  if (i >= args.rows) return;
  float gain = args.gain[i];
  if (fabsf(gain) < 1e-12f) args.gain[i] = gain = 1e-12f;
  args.over[i] = (args.m ? args.m[i] / args.c[i] : 1.0f) / gain;
}

LOWRANK_KERNEL(magnitude_gains, MagnitudeGainsArgs, kGainThreads, 4) {
  const int64_t i = element();
  if (i >= args.rows) return;
  const float m = args.m[i], c = args.c[i];
  args.gain[i] = m / c;
  args.share[i] = !args.of_scaled ? 1.0f / c : m == 0 ? 0.0f : 1.0f / m;
}

}  // namespace lowrank::cuda
