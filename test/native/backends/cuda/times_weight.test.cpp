// Matrices times weights of every format on CUDA against the host's decoder.
#include "backends/cuda/against_cpu.h"
#include "backends/cuda/weight_copy.h"

namespace lowrank::cuda {
namespace {

WeightShape shape_of(DeviceFormat format) {
  if (is_ggml(format)) return {format, 3, 256};
  return is_four_bit(format) ? WeightShape{format, 5, 65} : WeightShape{format, 5, 71, 2};
}

TEST("CUDA's matrices times weights of every format equal the product of their elements, from a row on") {
  for_each_execution([](Runner& run) {
    test::Random random(12);
    for (int i = 0; i < kDeviceFormats; ++i)
      for (const float own : {0.0f, 1.0f}) {
        const test::Scope scope("format " + std::to_string(i));
        const WeightCopy weight(run, shape_of(static_cast<DeviceFormat>(i)), random);
        Weights weights;
        weights.set(2, weight.device);
        run.set_weights(weights);
        const int64_t rows = weight.device.rows - 1, cols = weight.device.cols;
        std::vector<float> values(static_cast<size_t>(rows * cols));
        for (float& value : values) value = static_cast<float>(random.normal());
        float* const out = run.buffer(values);
        const TimesWeight kernel{Factor{rows, cols, 2, 1}, own, address_of(out)};
        std::byte* const room = run.buffer<std::byte>(workspace(run.card(), kernel));
        lowrank::cuda::run(run, kernel, address_of(room));
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t c = 0; c < cols; ++c)
            CHECK_EQ(out[row * cols + c], weight(row + 1, c) * (own + values[row * cols + c]));
      }
  });
}

}  // namespace
}  // namespace lowrank::cuda
