#include "backends/cuda/weight.h"

#include "check.h"

namespace lowrank::cuda {
namespace {

WeightView view_of(WeightFormat format, int64_t rows, int64_t cols) {
  WeightView view;
  view.format = format;
  view.rows = rows;
  view.cols = cols;
  view.ld = cols;
  return view;
}

TEST("a weight on CUDA takes the bytes of its arrays") {
  WeightView view = view_of(WeightFormat::bf16, 3, 10);
  view.ld = 12;
  CHECK(bytes_of(view).data == (2 * 12 + 10) * 2);

  const float absmax = 1;
  view = view_of(WeightFormat::int8, 3, 10);
  view.absmax = &absmax;
  CHECK(bytes_of(view).data == 30 && bytes_of(view).absmax == 12);

  // 130 codes are three blocks, the last one padded.
  view = view_of(WeightFormat::four_bit, 2, 65);
  view.absmax = &absmax;
  CHECK(format_of(view) == DeviceFormat::nf4);
  CHECK(bytes_of(view).data == 96 && bytes_of(view).absmax == 12 && bytes_of(view).absmax_codes == 0);
  view.absmax = nullptr;
  view.values = kFp4Values;
  view.nested_skip = 254;  // the third block lies in the second nested one
  CHECK(format_of(view) == DeviceFormat::fp4);
  CHECK(bytes_of(view).absmax == 0 && bytes_of(view).absmax_codes == 3 && bytes_of(view).nested_absmax == 8);

  view = view_of(WeightFormat::ggml, 3, 512);
  view.ggml = GgmlType::q6_k;
  CHECK(format_of(view) == DeviceFormat::q6_k && bytes_of(view).data == 3 * 2 * kQ6KBytes);
}

TEST("rows of a weight on CUDA keep their order and may lie in a slice") {
  WeightView view = view_of(WeightFormat::ggml, 16, 32);
  view.ggml = GgmlType::q4_0;
  view.head_rows = 8;
  const WeightAddresses at{Ptr<std::byte>(4096)};
  const DeviceWeight whole = device_weight(view, at);
  CHECK(whole.format == DeviceFormat::q4_0);
  for (int64_t row = 0; row < 16; ++row) CHECK(stored_row(whole, row) == lowrank::stored_row(row, 8));
  const DeviceWeight part = rows_of(rows_of(whole, 3, 10), 2, 4);
  CHECK(part.rows == 4);
  for (int64_t row = 0; row < 4; ++row) CHECK(stored_row(part, row) == lowrank::stored_row(row + 5, 8));

  // A slice that memory holds alone is named by the rows of the whole.
  Weights weights;
  view = view_of(WeightFormat::bf16, 6, 32);
  weights.set(2, device_weight(view, at, 10));
  const DeviceWeight rows = device_weight(weights, {4, 32, 2, 12});
  CHECK(rows.rows == 4 && stored_row(rows, 0) == 2);
  CHECK_THROWS(weights.at(1), "is not on the device");
  CHECK_THROWS(weights.at(3), "is not on the device");
}

}  // namespace
}  // namespace lowrank::cuda
