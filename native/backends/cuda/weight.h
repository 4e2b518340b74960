// Base weights where kernels find them: how a view becomes a device weight, and the table of them by number.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cuda/device_weight.h"
#include "backends/cuda/launcher.h"
#include "core/error.h"
#include "kernels/operands.h"
#include "quant/weight.h"

namespace lowrank::cuda {

constexpr DeviceFormat format_of(const WeightView& view) {
  switch (view.format) {
    case WeightFormat::f32:
      return DeviceFormat::f32;
    case WeightFormat::bf16:
      return DeviceFormat::bf16;
    case WeightFormat::f16:
      return DeviceFormat::f16;
    case WeightFormat::four_bit:
      return view.values == kFp4Values ? DeviceFormat::fp4 : DeviceFormat::nf4;
    case WeightFormat::int8:
      return DeviceFormat::int8;
    case WeightFormat::ggml:
      break;
  }
  return static_cast<DeviceFormat>(static_cast<int32_t>(DeviceFormat::q8_0) + static_cast<int32_t>(view.ggml));
}

/// Bytes of the arrays of a view, in the order in which they are copied; 0 where there is none.
struct WeightBytes {
  int64_t data = 0, absmax = 0, absmax_codes = 0, nested_absmax = 0;
};
constexpr WeightBytes bytes_of(const WeightView& view) {
  WeightBytes bytes;
  const DeviceFormat format = format_of(view);
  if (view.rows == 0 || view.cols == 0) return bytes;
  if (is_ggml(format)) {
    bytes.data = view.rows * layout_of(view.ggml).row_bytes(view.cols);
  } else if (is_four_bit(format)) {
    const int64_t blocks = (view.rows * view.cols + kCodeBlock - 1) / kCodeBlock;
    bytes.data = blocks * (kCodeBlock / 2);
    if (view.absmax != nullptr) {
      bytes.absmax = blocks * 4;
    } else {
      bytes.absmax_codes = blocks;
      bytes.nested_absmax = ((blocks - 1 + view.nested_skip) / kNestedBlock + 1) * 4;
    }
  } else {
    bytes.data = ((view.rows - 1) * view.ld + view.cols) * element_bytes(format);
    if (format == DeviceFormat::int8) bytes.absmax = view.rows * 4;
  }
  return bytes;
}

/// Device addresses of copies of the arrays of a view, `data` at a multiple of 16.
struct WeightAddresses {
  Ptr<std::byte> data;
  Ptr<float> absmax = {};
  Ptr<uint8_t> absmax_codes = {};
  Ptr<float> nested_absmax = {};
};
/// @param first row of the weight that the view begins with, where it holds a slice of the rows
inline DeviceWeight device_weight(const WeightView& view, const WeightAddresses& at, int64_t first = 0) {
  return {format_of(view),
          view.absmax_offset,
          view.rows,
          view.cols,
          -first,
          reinterpret_cast<const void*>(at.data.address()),
          view.ld,
          reinterpret_cast<const float*>(at.absmax.address()),
          reinterpret_cast<const uint8_t*>(at.absmax_codes.address()),
          reinterpret_cast<const float*>(at.nested_absmax.address()),
          view.nested_skip,
          view.format == WeightFormat::ggml ? view.head_rows : 0};
}

/// Weights of a model by their number in the graph.
class Weights {
 public:
  void set(int weight, const DeviceWeight& to) {
    if (static_cast<size_t>(weight) >= table_.size()) table_.resize(static_cast<size_t>(weight) + 1);
    table_[static_cast<size_t>(weight)] = to;
  }
  const DeviceWeight& at(int weight) const {
    if (weight < 0 || static_cast<size_t>(weight) >= table_.size() ||
        table_[static_cast<size_t>(weight)].data == nullptr)
      fail("INTERNAL", "weight ", weight, " is not on the device");
    return table_[static_cast<size_t>(weight)];
  }

 private:
  std::vector<DeviceWeight> table_;
};

/// Rows of a base weight, or dense fp32.
inline DeviceWeight device_weight(const Weights& weights, const Factor& factor) {
  if (factor.weight >= 0) return rows_of(weights.at(factor.weight), factor.first, factor.rows);
  WeightView view;
  view.rows = factor.rows;
  view.cols = factor.cols;
  view.ld = factor.ld;
  return device_weight(view, {factor.dense.as<std::byte>()});
}

/// The rows of an fp32 or bf16 weight as they lie.
inline Matrix dense_matrix(const DeviceWeight& w) {
  const DType dtype = w.format == DeviceFormat::f32 ? DType::f32 : DType::bf16;
  return Matrix{Ptr<std::byte>(reinterpret_cast<uint64_t>(w.data)), dtype, w.ld}.rows(w.first);
}

/// out[i, j] = w[i, column + j] for all rows and `columns` columns, the first a multiple of 8.
void dequantize(Launcher& launcher, const DeviceWeight& w, int64_t column, int64_t columns, const Matrix& out);

}  // namespace lowrank::cuda
