// Factors of rows: magnitudes over norms, and draws of rows under dropout.
#include "kernel.h"

namespace lowrank::cuda {

struct DrawRowsArgs {
  int64_t rows;
  float drop_row, drop_all;
  int64_t rescale;
  uint64_t key;  // mixed
  float* gains;
};
struct RatiosArgs {
  int64_t rows;
  const float *m, *c;
  float *gain, *over;
  float weight;
  int32_t unused = 0;
};
struct MagnitudeGainsArgs {
  int64_t rows;
  const float *m, *c;
  int64_t of_scaled;
  float *gain, *share;
};
inline constexpr int kDrawThreads = 1024, kGainThreads = 256;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"
#include "random.cuh"

namespace lowrank::cuda {
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
  const int64_t i = thread_of_grid();
  if (i < args.rows) args.gain[i] += args.weight * (args.m[i] / args.c[i]);
}

LOWRANK_KERNEL(ratios_over, RatiosArgs, kGainThreads, 4) {
  const int64_t i = thread_of_grid();
  if (i >= args.rows) return;
  float gain = args.gain[i];
  if (fabsf(gain) < 1e-12f) args.gain[i] = gain = 1e-12f;
  args.over[i] = (args.m ? args.m[i] / args.c[i] : 1.0f) / gain;
}

LOWRANK_KERNEL(magnitude_gains, MagnitudeGainsArgs, kGainThreads, 4) {
  const int64_t i = thread_of_grid();
  if (i >= args.rows) return;
  const float m = args.m[i], c = args.c[i];
  args.gain[i] = m / c;
  args.share[i] = !args.of_scaled ? 1.0f / c : m == 0 ? 0.0f : 1.0f / m;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include "core/random.h"

namespace lowrank::cuda {
namespace {

constexpr auto draw_rows = kernel_of<DrawRowsArgs>("draw_rows");
constexpr auto add_ratios = kernel_of<RatiosArgs>("add_ratios");
constexpr auto ratios_over = kernel_of<RatiosArgs>("ratios_over");
constexpr auto magnitude_gains = kernel_of<MagnitudeGainsArgs>("magnitude_gains");

}  // namespace

void run(Launcher& launcher, const DrawRows& k, Ptr<std::byte>) {
  launcher.launch(draw_rows, {k.rows > 0}, kDrawThreads,
                  {k.rows, k.drop_row, k.drop_all, k.rescale, mix(k.key), device_pointer(k.gains)});
}

void run(Launcher& launcher, const AddRatios& k, Ptr<std::byte>) {
  launcher.launch(add_ratios, blocks_of(k.rows, kGainThreads), kGainThreads,
                  {k.rows, device_pointer(k.m), device_pointer(k.c), device_pointer(k.gain), nullptr, k.weight});
}

void run(Launcher& launcher, const RatiosOver& k, Ptr<std::byte>) {
  launcher.launch(
      ratios_over, blocks_of(k.rows, kGainThreads), kGainThreads,
      {k.rows, device_pointer(k.m), device_pointer(k.c), device_pointer(k.gain), device_pointer(k.over), 0});
}

void run(Launcher& launcher, const MagnitudeGains& k, Ptr<std::byte>) {
  launcher.launch(
      magnitude_gains, blocks_of(k.rows, kGainThreads), kGainThreads,
      {k.rows, device_pointer(k.m), device_pointer(k.c), k.of_scaled, device_pointer(k.gain), device_pointer(k.share)});
}

}  // namespace lowrank::cuda

#endif
