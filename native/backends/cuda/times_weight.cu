// A matrix times a weight, element by element. Some rows of the weight are decoded at a time, so that one kernel serves
// every format.
#include "kernel.h"

namespace lowrank::cuda {

/// values[i] = w[i] (own + values[i]).
struct TimesWeightArgs {
  int64_t elements;
  const float* w;
  float* values;
  float own;
  int32_t unused = 0;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {

LOWRANK_KERNEL(times_weight, TimesWeightArgs, 256, 4) {
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i < args.elements) args.values[i] = args.w[i] * (args.own + args.values[i]);
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/weight.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr auto times_weight = kernel_of<TimesWeightArgs>("times_weight");

int64_t rows_at_once(const Factor& w) {
  constexpr int64_t kElements = int64_t{1} << 22;
  return std::clamp<int64_t>(kElements / std::max<int64_t>(w.cols, 1), 1, std::max<int64_t>(w.rows, 1));
}

}  // namespace

int64_t workspace(const Card&, const TimesWeight& k) { return round_up(rows_at_once(k.w) * k.w.cols * 4, 256); }

void run(Launcher& launcher, const TimesWeight& k, Ptr<std::byte> room) {
  for (int64_t row = 0; row < k.w.rows; row += rows_at_once(k.w)) {
    const int64_t rows = std::min(rows_at_once(k.w), k.w.rows - row), elements = rows * k.w.cols;
    const DeviceWeight w = device_weight(launcher.weights(), k.w.slice(row, rows));
    dequantize(launcher, w, 0, k.w.cols, f32_matrix(room.as<float>(), k.w.cols));
    const TimesWeightArgs args{elements, device_pointer(room.as<float>()), device_pointer(k.values + row * k.w.cols),
                               k.own};
    launcher.launch(times_weight, {ceil_div(elements, 256)}, 256, args);
  }
}

}  // namespace lowrank::cuda

#endif
