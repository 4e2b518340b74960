// Decoded weights have the bits of the host's decoder.
#include "backends/cuda/runs.h"

#include <bit>

#include "backends/cuda/weight_copy.h"

namespace lowrank::cuda {
namespace {

/// Shapes of every format, rows that are no whole number of blocks or of 16 bytes among them.
std::vector<WeightShape> shapes() {
  std::vector<WeightShape> all;
  for (int i = 0; i < kDeviceFormats; ++i) {
    const auto format = static_cast<DeviceFormat>(i);
    if (is_ggml(format)) {
      all.push_back({format, 8, 512, 0, false, 4});
      all.push_back({format, 3, 256});
    } else if (is_four_bit(format)) {
      for (const bool nested : {false, true})
        for (const int64_t cols : {1, 65, 72, 192}) all.push_back({format, 5, cols, 0, nested});
    } else {
      all.push_back({format, 5, 1});
      all.push_back({format, 5, 71, 2});
      all.push_back({format, 5, 104, 8});
    }
  }
  return all;
}

bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

TEST("CUDA decodes weights of every format with the host's bits") {
  for_each_execution([](Runner& run) {
    test::Random random(3);
    for (const WeightShape& shape : shapes()) {
      const test::Scope scope("format " + std::to_string(static_cast<int>(shape.format)) + ", " +
                              std::to_string(shape.cols) + " columns");
      const WeightCopy weight(run, shape, random);
      const int64_t column = shape.cols > 64 ? 64 : 0;
      struct Part {
        int64_t row, rows, column, columns;
      };
      for (const Part& part : {Part{0, shape.rows, 0, shape.cols}, {1, shape.rows - 2, column, shape.cols - column}}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
          const Tensor out(run, dtype, part.rows, part.columns, part.row == 0 ? 3 : 8);
          dequantize(run, rows_of(weight.device, part.row, part.rows), part.column, part.columns, out.matrix());
          bool same = true;
          for (int64_t r = 0; r < part.rows; ++r) {
            for (int64_t c = 0; c < part.columns; ++c) {
              const float expected = weight(part.row + r, part.column + c);
              same = same && same_bits(static_cast<float>(out(r, c)),
                                       dtype == DType::f32 ? expected : f32_from_bf16(bf16_from_f32(expected)));
            }
          }
          CHECK(same);
          CHECK(out.spare_untouched());
        }
      }
    }
  });
}

TEST("CUDA looks up rows of every format with the host's bits") {
  for_each_execution([](Runner& run) {
    test::Random random(4);
    const std::vector<int32_t> ids = {2, 0, 2, 1};
    for (const WeightShape& shape : shapes()) {
      const test::Scope scope("format " + std::to_string(static_cast<int>(shape.format)));
      const WeightCopy weight(run, shape, random);
      Weights weights;
      weights.set(1, weight.device);
      const Tensor out(run, DType::f32, 4, shape.cols, 1);
      run.set_weights(weights);
      lowrank::cuda::run(run, DecodeRows{4, address_of(run.buffer(ids)), {3, shape.cols, 1}, out.matrix()}, {});
      bool same = true;
      for (int64_t t = 0; t < 4; ++t)
        for (int64_t c = 0; c < shape.cols; ++c)
          same = same && same_bits(static_cast<float>(out(t, c)), weight(ids[static_cast<size_t>(t)], c));
      CHECK(same);
      CHECK(out.spare_untouched());
    }
  });
}

}  // namespace
}  // namespace lowrank::cuda
