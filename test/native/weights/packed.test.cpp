// Quantized weights as bitsandbytes packs them, into memory and out again: nothing may change, whatever the sizes.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "core/error.h"
#include "quant/four_bit.h"
#include "temporary_file.h"
#include "weights/weights.h"

namespace {

using namespace lowrank;

std::vector<uint8_t> bytes_of(const std::vector<float>& values) {
  std::vector<uint8_t> bytes(values.size() * 4);
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// Both lists have the quantized formats at their end, in one order.
SourceDtype dtype_of(StorageFormat format) {
  return static_cast<SourceDtype>(static_cast<int>(SourceDtype::nf4) + static_cast<int>(format) -
                                  static_cast<int>(StorageFormat::nf4));
}

/// A weight of these sizes that was quantized here and packed, in a file as its parts lie in a model.
struct Packed {
  Packed(Pool& pool, StorageFormat format, int64_t rows, int64_t cols)
      : original(make(pool, format, rows, cols)), parts(pack_weight(pool, original)), file(join()) {
    const auto at = [&](size_t before, size_t bytes) {
      return FileSpan{file.path(), static_cast<int64_t>(before), static_cast<int64_t>(bytes)};
    };
    const size_t codes = parts.codes.size(), absmax = parts.absmax.size(), nested = parts.nested_absmax.size();
    source.name = std::string("w");
    source.file = file.path();
    source.bytes = static_cast<int64_t>(codes);
    source.dtype = dtype_of(format);
    source.rows = rows;
    source.cols = cols;
    source.absmax = at(codes, absmax);
    source.nested_absmax = at(codes + absmax, nested);
    source.absmax_offset = parts.absmax_offset.value_or(0);
  }

  Weight original;
  PackedWeight parts;
  test::TemporaryFile file;
  TensorSource source;

 private:
  static Weight make(Pool& pool, StorageFormat format, int64_t rows, int64_t cols) {
    std::vector<float> values(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i % 1013)) * 0.1f;
    const test::TemporaryFile plain(bytes_of(values));
    const auto bytes = static_cast<int64_t>(values.size() * 4);
    return load_weight(pool, {"w", plain.path(), 0, bytes, SourceDtype::f32, rows, cols}, format);
  }
  std::vector<uint8_t> join() const {
    std::vector<uint8_t> content = parts.codes;
    content.insert(content.end(), parts.absmax.begin(), parts.absmax.end());
    content.insert(content.end(), parts.nested_absmax.begin(), parts.nested_absmax.end());
    return content;
  }
};

std::vector<float> decoded(const Weight& weight) {
  std::vector<float> values(static_cast<size_t>(weight.rows() * weight.cols()));
  for (int64_t row = 0; row < weight.rows(); ++row)
    decode_row(weight.view(), row, 0, weight.cols(), values.data() + row * weight.cols());
  return values;
}

constexpr StorageFormat kFormats[] = {StorageFormat::nf4, StorageFormat::nf4_double, StorageFormat::fp4,
                                      StorageFormat::fp4_double, StorageFormat::int8};

}  // namespace

TEST("packed weights come back as they were, at any size and in chunks of any size") {
  Pool pool(2);
  const struct {
    int64_t rows, cols;
  } shapes[] = {{1, 1}, {1, 63}, {3, 65}, {5, 13}, {7, 72}, {129, 127}, {300, 320}};
  for (const StorageFormat format : kFormats)
    for (const auto& [rows, cols] : shapes) {
      const Packed packed(pool, format, rows, cols);
      for (const int64_t chunk : {1, 40, 1 << 19}) {
        LoadOptions options;
        options.chunk_elements = chunk;
        const Weight weight = load_weight(pool, packed.source, format, options);
        CHECK(pack_weight(pool, weight) == packed.parts);
        CHECK(decoded(weight) == decoded(packed.original));
        const auto bytes = static_cast<size_t>(weight_bytes(format, rows, cols));
        CHECK(std::memcmp(weight.data(), packed.original.data(), bytes) == 0);
      }
    }
}

TEST("packed weights decode to fp32 and bf16, and are not quantized a second time") {
  Pool pool(2);
  for (const StorageFormat format : kFormats) {
    const Packed packed(pool, format, 9, 100);
    const std::vector<float> values = decoded(packed.original);
    CHECK(decoded(load_weight(pool, packed.source, StorageFormat::f32)) == values);
    const std::vector<float> rounded = decoded(load_weight(pool, packed.source, StorageFormat::bf16));
    for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(rounded[i], f32_from_bf16(bf16_from_f32(values[i])));
    const StorageFormat other = format == StorageFormat::nf4 ? StorageFormat::nf4_double : StorageFormat::nf4;
    for (const StorageFormat refused : {other, StorageFormat::f16}) {
      try {
        load_weight(pool, packed.source, refused);
        CHECK(!"loaded");
      } catch (const Error& error) {
        CHECK_EQ(std::string(error.code()), std::string("UNSUPPORTED"));
      }
    }
  }
}

TEST("packed weights whose sizes or scales cannot be are refused") {
  Pool pool(1);
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const StorageFormat format : kFormats) {
    const Packed good(pool, format, 8, 72);
    const auto refused = [&](auto change) {
      TensorSource source = good.source;
      change(source);
      try {
        load_weight(pool, source, format);
        return std::string("loaded");
      } catch (const Error& error) {
        return std::string(error.code());
      }
    };
    const std::string expected = "FILE_FORMAT";
    CHECK_EQ(refused([](TensorSource& s) { s.rows = 9; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.rows = -8; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.rows = int64_t{1} << 60; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.bytes += 1; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.offset = 1 << 20; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.offset = -1; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.absmax.bytes -= 1; }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.absmax.offset = std::numeric_limits<int64_t>::max(); }), expected);
    CHECK_EQ(refused([](TensorSource& s) { s.absmax.file = "/no/such/file"; }), expected);
    if (is_double(format)) {
      CHECK_EQ(refused([](TensorSource& s) { s.nested_absmax.bytes += 4; }), expected);
      CHECK_EQ(refused([&](TensorSource& s) { s.absmax_offset = nan; }), expected);
    }
    for (const float bad : {nan, infinity, -1.0f}) {
      const test::TemporaryFile scales(bytes_of(std::vector<float>(good.parts.absmax.size(), bad)));
      CHECK_EQ(refused([&](TensorSource& s) {
                 FileSpan& span = is_double(format) ? s.nested_absmax : s.absmax;
                 span.file = scales.path();
                 span.offset = 0;
               }),
               expected);
    }
  }
}
