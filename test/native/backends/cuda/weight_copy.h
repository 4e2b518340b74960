// Weights of random contents, on the host and in a runner's memory.
#pragma once

#include <vector>

#include "backends/cuda/tensor.h"
#include "backends/cuda/weight.h"

namespace lowrank::cuda {

inline constexpr int kDeviceFormats = static_cast<int>(DeviceFormat::iq4_xs) + 1;

struct WeightShape {
  DeviceFormat format;
  int64_t rows, cols;
  int64_t spare = 0;      // dense formats and int8: elements after each row
  bool nested = false;    // 4-bit formats: double quantization
  int64_t head_rows = 0;  // GGUF formats
};

class WeightCopy {
 public:
  WeightCopy(Runner& run, const WeightShape& shape, test::Random& random) {
    view.rows = shape.rows;
    view.cols = shape.cols;
    view.ld = shape.cols + shape.spare;
    const DeviceFormat format = shape.format;
    if (is_ggml(format)) {
      view.format = WeightFormat::ggml;
      view.ggml = static_cast<GgmlType>(static_cast<int>(format) - static_cast<int>(DeviceFormat::q8_0));
      view.head_rows = shape.head_rows;
    } else if (is_four_bit(format)) {
      view.format = WeightFormat::four_bit;
      view.values = format == DeviceFormat::nf4 ? kNf4Values : kFp4Values;
    } else {
      view.format =
          format == DeviceFormat::int8 ? WeightFormat::int8 : static_cast<WeightFormat>(static_cast<int>(format));
    }
    if (is_four_bit(format) && shape.nested) {
      view.nested_skip = 254;
      view.absmax_offset = 0.75f;
    } else if (is_four_bit(format) || format == DeviceFormat::int8) {
      view.absmax = &kSome;
    }
    const WeightBytes bytes = bytes_of(view);
    const auto addresses = [&] {
      WeightAddresses at;
      at.data = fill(run, data_, bytes.data, random);
      at.absmax = scales(run, absmax_, bytes.absmax, random);
      at.absmax_codes = fill(run, codes_, bytes.absmax_codes, random).as<uint8_t>();
      at.nested_absmax = scales(run, nested_, bytes.nested_absmax, random);
      return at;
    };
    // Contents first, as they are copied.
    data_.resize(static_cast<size_t>(bytes.data));
    for (std::byte& b : data_) b = static_cast<std::byte>(random.bits());
    set_numbers(random);
    const WeightAddresses at = addresses();
    view.data = data_.data();
    view.absmax = absmax_.empty() ? nullptr : absmax_.data();
    view.absmax_codes = codes_.empty() ? nullptr : reinterpret_cast<const uint8_t*>(codes_.data());
    view.nested_absmax = nested_.empty() ? nullptr : nested_.data();
    device = device_weight(view, at);
  }
  WeightCopy(const WeightCopy&) = delete;
  WeightCopy& operator=(const WeightCopy&) = delete;

  /// The element as it is decoded on the host.
  float operator()(int64_t row, int64_t col) const {
    float value;
    decode_row(view, row, col, 1, &value);
    return value;
  }

  WeightView view;
  DeviceWeight device{};

 private:
  static constexpr float kSome = 1;

  /// Numbers of the formats that hold some in their data, so that none is infinite.
  void set_numbers(test::Random& random) {
    const auto half = [&](size_t at) {
      const uint16_t bits = f16_from_f32(static_cast<float>(random.normal() * 0.05));
      std::memcpy(data_.data() + at, &bits, 2);
    };
    if (view.format == WeightFormat::ggml) {
      constexpr int kAt[kGgmlTypes][2] = {{0, 0},   {0, 0},     {0, 2}, {0, 0}, {0, 2},     {0, 0},
                                          {80, 82}, {108, 108}, {0, 2}, {0, 2}, {208, 208}, {0, 0}};
      const auto block = static_cast<size_t>(layout_of(view.ggml).bytes);
      for (size_t at = 0; at < data_.size(); at += block)
        for (const int number : kAt[static_cast<int>(view.ggml)]) half(at + static_cast<size_t>(number));
    } else if (view.format == WeightFormat::f32 || view.format == WeightFormat::bf16 ||
               view.format == WeightFormat::f16) {
      const auto size = static_cast<size_t>(element_bytes(format_of(view)));
      for (size_t at = 0; at < data_.size(); at += size) {
        const auto value = static_cast<float>(random.normal());
        const uint16_t bits = view.format == WeightFormat::bf16 ? bf16_from_f32(value) : f16_from_f32(value);
        std::memcpy(data_.data() + at, size == 4 ? static_cast<const void*>(&value) : &bits, size);
      }
    }
  }
  Ptr<std::byte> fill(Runner& run, std::vector<std::byte>& to, int64_t bytes, test::Random& random) {
    if (to.empty()) {
      to.resize(static_cast<size_t>(bytes));
      for (std::byte& b : to) b = static_cast<std::byte>(random.bits());
    }
    return bytes == 0 ? Ptr<std::byte>() : address_of(run.buffer(to));
  }
  Ptr<float> scales(Runner& run, std::vector<float>& to, int64_t bytes, test::Random& random) {
    to.resize(static_cast<size_t>(bytes) / 4);
    for (float& value : to) value = static_cast<float>(0.1 + random.uniform());
    return bytes == 0 ? Ptr<float>() : address_of(run.buffer(to));
  }

  std::vector<std::byte> data_, codes_;
  std::vector<float> absmax_, nested_;
};

}  // namespace lowrank::cuda
