// The loader on files that the tests write: every dtype into every format, rows in both orders, chunks of any size.
#include "weights/weights.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "core/error.h"
#include "os/process_memory.h"
#include "quant/four_bit.h"
#include "quant/int8.h"
#include "temporary_file.h"

namespace {

using namespace lowrank;

constexpr int64_t kOffset = 24;  // something else stands before the tensor in its file

/// A tensor's bytes in some dtype and the fp32 values that they stand for, by straightforward means.
struct Encoded {
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

Encoded encode(SourceDtype dtype, int64_t rows, int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(rows * 1000 + cols));
  std::normal_distribution<float> normal;
  Encoded tensor;
  const auto append = [&](const auto& value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    tensor.bytes.insert(tensor.bytes.end(), raw, raw + sizeof value);
  };
  const int64_t count = rows * cols;
  const auto half = [&] { return static_cast<uint16_t>((random() & 1) << 15 | (0x2400 + random() % 0x0800)); };
  for (int64_t i = 0; i < count;) {
    if (dtype == SourceDtype::f32) {
      const float value = normal(random);
      append(value);
      tensor.values.push_back(value);
      ++i;
    } else if (dtype == SourceDtype::f16) {
      const uint16_t value = half();
      append(value);
      tensor.values.push_back(f32_from_f16(value));
      ++i;
    } else if (dtype == SourceDtype::bf16) {
      const uint16_t value = bf16_from_f32(normal(random));
      append(value);
      tensor.values.push_back(f32_from_bf16(value));
      ++i;
    } else {
      const uint16_t d = half();
      const uint16_t m = half();
      append(d);
      if (dtype == SourceDtype::q4_1) append(m);
      uint8_t q[32];
      for (uint8_t& byte : q) byte = static_cast<uint8_t>(random());
      const int size = dtype == SourceDtype::q8_0 ? 32 : 16;
      tensor.bytes.insert(tensor.bytes.end(), q, q + size);
      for (int j = 0; j < 32; ++j) {
        const int nibble = j < 16 ? q[j] & 15 : q[j - 16] >> 4;
        const float scale = f32_from_f16(d);
        if (dtype == SourceDtype::q8_0) tensor.values.push_back(scale * static_cast<float>(static_cast<int8_t>(q[j])));
        if (dtype == SourceDtype::q4_0) tensor.values.push_back(scale * static_cast<float>(nibble - 8));
        if (dtype == SourceDtype::q4_1) tensor.values.push_back(scale * static_cast<float>(nibble) + f32_from_f16(m));
      }
      i += 32;
    }
  }
  return tensor;
}

constexpr SourceDtype kDtypes[] = {SourceDtype::f32,  SourceDtype::f16,  SourceDtype::bf16,
                                   SourceDtype::q8_0, SourceDtype::q4_0, SourceDtype::q4_1};
constexpr StorageFormat kFormats[] = {StorageFormat::f32,        StorageFormat::bf16,       StorageFormat::f16,
                                      StorageFormat::nf4,        StorageFormat::nf4_double, StorageFormat::fp4,
                                      StorageFormat::fp4_double, StorageFormat::int8};

/// A file with the tensor in it and the description that a header would give.
class Source {
 public:
  Source(const std::vector<uint8_t>& bytes, SourceDtype dtype, int64_t rows, int64_t cols, int64_t missing = 0)
      : file_(surround(bytes, missing)) {
    tensor.name = "model.layers.0.self_attn.q_proj.weight";
    tensor.file = file_.path();
    tensor.offset = kOffset;
    tensor.bytes = static_cast<int64_t>(bytes.size());
    tensor.dtype = dtype;
    tensor.rows = rows;
    tensor.cols = cols;
  }
  TensorSource tensor;

 private:
  static std::vector<uint8_t> surround(const std::vector<uint8_t>& bytes, int64_t missing) {
    const auto kept = static_cast<int64_t>(bytes.size()) - missing;
    std::vector<uint8_t> content(kOffset + kept + (missing == 0 ? 40 : 0), 0xaa);
    std::copy_n(bytes.begin(), kept, content.begin() + kOffset);
    return content;
  }
  test::TemporaryFile file_;
};

/// Values of the storage formats for fp32 input, without the loader.
std::vector<float> expected_values(const std::vector<float>& values, int64_t cols, StorageFormat format) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<float> expected = values;
  if (format == StorageFormat::bf16) {
    for (float& value : expected) value = f32_from_bf16(bf16_from_f32(value));
  }
  if (!is_quantized(format)) return expected;
  if (format == StorageFormat::int8) {
    const int64_t rows = count / cols;
    std::vector<int8_t> codes(values.size());
    std::vector<float> absmax(rows);
    for (int64_t r = 0; r < rows; ++r)
      absmax[r] = quantize_int8(values.data() + r * cols, cols, codes.data() + r * cols);
    WeightView view{WeightFormat::int8, rows, cols, codes.data(), cols};
    view.absmax = absmax.data();
    for (int64_t r = 0; r < rows; ++r) decode_row(view, r, 0, cols, expected.data() + r * cols);
    return expected;
  }
  const bool fp4 = format == StorageFormat::fp4 || format == StorageFormat::fp4_double;
  std::vector<uint8_t> codes(code_bytes(count)), absmax_codes(code_blocks(count));
  std::vector<float> absmax(code_blocks(count)), nested(nested_blocks(absmax.size()));
  quantize_four_bit(fp4 ? FourBit::fp4 : FourBit::nf4, values.data(), count, codes.data(), absmax.data());
  WeightView view{WeightFormat::four_bit, 1, count, codes.data(), count};
  view.values = fp4 ? kFp4Values : kNf4Values;
  if (format == StorageFormat::nf4_double || format == StorageFormat::fp4_double) {
    view.absmax_offset = quantize_absmax(absmax.data(), absmax.size(), absmax_codes.data(), nested.data());
    view.absmax_codes = absmax_codes.data();
    view.nested_absmax = nested.data();
  } else {
    view.absmax = absmax.data();
  }
  decode_row(view, 0, 0, count, expected.data());
  return expected;
}

std::vector<float> decoded(const Weight& weight) {
  std::vector<float> values(weight.rows() * weight.cols());
  for (int64_t row = 0; row < weight.rows(); ++row) {
    decode_row(weight.view(), row, 0, weight.cols(), values.data() + row * weight.cols());
  }
  return values;
}

bool same_bytes(const Weight& a, const Weight& b) {
  const auto elements = static_cast<size_t>(weight_bytes(a.format(), a.rows(), a.cols()));
  const auto blocks = static_cast<size_t>(code_blocks(a.rows() * a.cols()));
  if (std::memcmp(a.data(), b.data(), elements) != 0) return false;
  const auto scales = a.format() == StorageFormat::int8 ? static_cast<size_t>(a.rows()) : blocks;
  if (a.absmax() != nullptr) return std::memcmp(a.absmax(), b.absmax(), scales * 4) == 0;
  if (a.absmax_codes() == nullptr) return true;
  return std::memcmp(a.absmax_codes(), b.absmax_codes(), blocks) == 0 &&
         std::memcmp(a.nested_absmax(), b.nested_absmax(), nested_blocks(blocks) * 4) == 0 &&
         a.absmax_offset() == b.absmax_offset();
}

LoadOptions chunks_of(int64_t elements) {
  LoadOptions options;
  options.chunk_elements = elements;
  return options;
}

/// Rows in the order in which GGUF keeps them: 0, d/2, 1, d/2 + 1, … of each head.
template <class T>
std::vector<T> permuted(const std::vector<T>& rows, int64_t count, int64_t heads) {
  const auto size = static_cast<int64_t>(rows.size()) / count;
  const int64_t per_head = count / heads;
  std::vector<T> result;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t pair = 0; pair < per_head / 2; ++pair) {
      for (const int64_t row : {head * per_head + pair, head * per_head + per_head / 2 + pair}) {
        result.insert(result.end(), rows.begin() + row * size, rows.begin() + (row + 1) * size);
      }
    }
  }
  return result;
}

}  // namespace

TEST("every dtype loads into every format with the values that the format allows") {
  Pool pool(2);
  for (const SourceDtype dtype : kDtypes) {
    for (const StorageFormat format : kFormats) {
      if (format == StorageFormat::f16 && dtype != SourceDtype::f16) continue;
      const Encoded tensor = encode(dtype, 9, 96);
      const Source source(tensor.bytes, dtype, 9, 96);
      const Weight weight = load_weight(pool, source.tensor, format);
      CHECK_EQ(weight.rows(), 9);
      CHECK_EQ(weight.cols(), 96);
      CHECK(weight.format() == format);
      CHECK(decoded(weight) == expected_values(tensor.values, weight.cols(), format));
    }
  }
}

TEST("the result depends neither on the chunk size nor on the number of threads") {
  Pool one(1), two(2);
  const struct {
    int64_t rows, cols, heads;
  } shapes[] = {{24, 64, 0}, {24, 64, 3}, {24, 96, 3}, {40, 41, 0}, {40, 41, 5}, {1, 1000, 0}, {513, 1, 0}, {12, 7, 2}};
  for (const auto& [rows, cols, heads] : shapes) {
    const Encoded tensor = encode(SourceDtype::f32, rows, cols);
    Source source(tensor.bytes, SourceDtype::f32, rows, cols);
    source.tensor.permuted_heads = heads;
    for (const StorageFormat format : kFormats) {
      if (format == StorageFormat::f16) continue;
      const Weight whole = load_weight(one, source.tensor, format);
      for (const int64_t chunk : {1, 100, 333, 64 * 24}) {
        CHECK(same_bytes(whole, load_weight(one, source.tensor, format, chunks_of(chunk))));
        CHECK(same_bytes(whole, load_weight(two, source.tensor, format, chunks_of(chunk))));
      }
    }
  }
}

TEST("a tensor large enough for both threads gets the same bits from one and two") {
  Pool one(1), two(2);
  const Encoded tensor = encode(SourceDtype::q4_1, 1030, 1056);
  Source source(tensor.bytes, SourceDtype::q4_1, 1030, 1056);
  for (const int64_t heads : {0, 5}) {
    source.tensor.permuted_heads = heads;
    for (const StorageFormat format : {StorageFormat::f32, StorageFormat::bf16, StorageFormat::nf4_double}) {
      CHECK(same_bytes(load_weight(one, source.tensor, format),
                       load_weight(two, source.tensor, format, chunks_of(200000))));
    }
  }
}

TEST("permuted rows come back in order, in every dtype and format") {
  // The published example: 2 heads of 8 rows.
  std::vector<int> order(16);
  for (int i = 0; i < 16; ++i) order[i] = i;
  CHECK(permuted(order, 16, 2) == (std::vector<int>{0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15}));
  Pool pool(2);
  for (const SourceDtype dtype : kDtypes) {
    const Encoded tensor = encode(dtype, 24, 96);
    Source source(permuted(tensor.bytes, 24, 3), dtype, 24, 96);
    source.tensor.permuted_heads = 3;
    for (const StorageFormat format : kFormats) {
      if (format == StorageFormat::f16 && dtype != SourceDtype::f16) continue;
      const Weight weight = load_weight(pool, source.tensor, format, chunks_of(1000));
      CHECK(decoded(weight) == expected_values(tensor.values, weight.cols(), format));
    }
  }
}

TEST("a permuted bias is put in order by its elements") {
  const Encoded tensor = encode(SourceDtype::f32, 1, 24);
  Source source(permuted(tensor.bytes, 24, 3), SourceDtype::f32, 1, 24);
  source.tensor.permuted_heads = 3;
  Pool pool(1);
  CHECK(decoded(load_weight(pool, source.tensor, StorageFormat::f32)) == tensor.values);
}

/// Values of a file with two key heads, whose value heads stand in turns, in the model's order.
std::vector<float> in_model_order(const std::vector<float>& file, int64_t rows, int64_t cols, const HeadOrder& order) {
  std::vector<float> model = file;
  const int64_t per_key = order.heads / order.key_heads;
  for (int64_t key = 0; key < order.key_heads; ++key)
    for (int64_t value = 0; value < per_key; ++value)
      for (int64_t i = 0; i < order.size; ++i) {
        const int64_t to = order.first + (key * per_key + value) * order.size + i;
        const int64_t from = order.first + (value * order.key_heads + key) * order.size + i;
        for (int64_t other = 0; other < (order.columns ? rows : cols); ++other)
          if (order.columns)
            model[other * cols + to] = file[other * cols + from];
          else
            model[to * cols + other] = file[from * cols + other];
      }
  return model;
}

TEST("value heads come back in the model's order, in every dtype and format, as rows and as columns") {
  Pool pool(2);
  const HeadOrder orders[] = {
      {6, 2, 3, 5, false}, {6, 3, 4, 0, false}, {4, 2, 32, 0, true}, {6, 2, 16, 32, true}, {8, 4, 16, 0, true}};
  for (const HeadOrder& order : orders) {
    for (const SourceDtype dtype : kDtypes) {
      const Encoded tensor = encode(dtype, 25, 128);
      Source source(tensor.bytes, dtype, 25, 128);
      source.tensor.head_order = order;
      const std::vector<float> expected = in_model_order(tensor.values, 25, 128, order);
      for (const StorageFormat format : kFormats) {
        if (format == StorageFormat::f16 && dtype != SourceDtype::f16) continue;
        const Weight weight = load_weight(pool, source.tensor, format, chunks_of(700));
        CHECK(decoded(weight) == expected_values(expected, weight.cols(), format));
      }
    }
  }
}

TEST("blocks stay blocks where value heads are whole blocks") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::q8_0, 9, 128);
  Source source(tensor.bytes, SourceDtype::q8_0, 9, 128);
  source.tensor.head_order = {4, 2, 32, 0, true};
  CHECK(decoded(load_weight(pool, source.tensor, StorageFormat::q8_0)) ==
        in_model_order(tensor.values, 9, 128, source.tensor.head_order));
  source.tensor.head_order = {8, 2, 16, 0, true};
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::q8_0), "cannot be changed within the blocks of q8_0");
}

TEST("a vector of value heads is put in order by its elements, and rates become their logarithms") {
  Pool pool(1);
  const std::vector<float> rates = {-1.0f, -0.5f, -4.0f, -0.25f};
  std::vector<uint8_t> bytes(16);
  std::memcpy(bytes.data(), rates.data(), 16);
  Source source(bytes, SourceDtype::f32, 1, 4);
  source.tensor.head_order = {4, 2, 1};
  source.tensor.negated_exp = true;
  const std::vector<float> found = decoded(load_weight(pool, source.tensor, StorageFormat::f32));
  const float expected[] = {0.0f, std::log(4.0f), std::log(0.5f), std::log(0.25f)};
  for (int i = 0; i < 4; ++i) CHECK_EQ(found[i], expected[i]);
  const float zero = 0;
  std::memcpy(bytes.data() + 8, &zero, 4);
  Source wrong(bytes, SourceDtype::f32, 1, 4);
  wrong.tensor.negated_exp = true;
  CHECK_THROWS(load_weight(pool, wrong.tensor, StorageFormat::f32), "holds 0 at 2; expected numbers below zero");
}

TEST("a weight allocates the bytes that were planned for its shape and format, and gives them back") {
  const int64_t weights_before = allocated_bytes(Category::weights);
  const int64_t constants_before = allocated_bytes(Category::quantization_constants);
  const struct {
    int64_t rows, cols;
  } shapes[] = {{1, 1}, {1, 63}, {8, 8}, {1, 65}, {129, 127}, {128, 128}, {200, 100}};
  for (const auto& [rows, cols] : shapes) {
    for (const StorageFormat format : kFormats) {
      const Weight weight(format, rows, cols);
      CHECK_EQ(allocated_bytes(Category::weights) - weights_before, weight_bytes(format, rows, cols));
      CHECK_EQ(allocated_bytes(Category::quantization_constants) - constants_before,
               constants_bytes(format, rows, cols));
    }
  }
  CHECK_EQ(allocated_bytes(Category::weights), weights_before);
  CHECK_EQ(allocated_bytes(Category::quantization_constants), constants_before);
  // 16384 blocks of 64: half a byte a weight, then 4 bytes a block, or 1 and 4 more per 256 blocks.
  CHECK_EQ(weight_bytes(StorageFormat::nf4, 1024, 1024), 524288);
  CHECK_EQ(constants_bytes(StorageFormat::nf4, 1024, 1024), 65536);
  CHECK_EQ(constants_bytes(StorageFormat::nf4_double, 1024, 1024), 16384 + 256);
  CHECK_EQ(weight_bytes(StorageFormat::bf16, 3, 5), 30);
  CHECK_EQ(weight_bytes(StorageFormat::int8, 3, 5), 15);
  CHECK_EQ(constants_bytes(StorageFormat::int8, 3, 5), 12);
}

TEST("a view stays valid when its weight moves") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::f32, 4, 64);
  const Source source(tensor.bytes, SourceDtype::f32, 4, 64);
  Weight first = load_weight(pool, source.tensor, StorageFormat::nf4);
  const WeightView view = first.view();
  const Weight second = std::move(first);
  CHECK(view.data == second.view().data);
  CHECK(view.absmax == second.view().absmax);
}

TEST("a weight may lie in bytes that someone else owns, and keeps them there") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::f32, 5, 96);
  const Source source(tensor.bytes, SourceDtype::f32, 5, 96);
  for (const StorageFormat format :
       {StorageFormat::f32, StorageFormat::nf4, StorageFormat::nf4_double, StorageFormat::int8}) {
    const int64_t before = allocated_bytes(Category::weights);
    auto owned = std::make_shared<const Weight>(load_weight(pool, source.tensor, format));
    const std::weak_ptr<const Weight> watched = owned;
    const void* constants =
        owned->absmax() != nullptr ? static_cast<const void*>(owned->absmax()) : owned->nested_absmax();
    {
      const Weight there(format, 5, 96, {owned->data(), constants, owned->absmax_offset(), owned});
      owned.reset();
      REQUIRE(!watched.expired());
      CHECK(same_bytes(there, *watched.lock()));
      CHECK(decoded(there) == decoded(*watched.lock()));
      CHECK_EQ(allocated_bytes(Category::weights) - before, weight_bytes(format, 5, 96));
    }
    CHECK(watched.expired());
    CHECK_EQ(allocated_bytes(Category::weights), before);
  }
}

TEST("loading keeps no full-precision copy: the peak is the quantized weight and a chunk") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("the sanitizer's own memory counts in the resident set");
#endif
  // 64 MiB of bf16 zeros, a hole in the file.
  const test::TemporaryFile file({});
  const int64_t rows = 8192, cols = 4096, bytes = rows * cols * 2;
  std::filesystem::resize_file(file.path(), static_cast<std::uintmax_t>(bytes));
  const TensorSource source{"w", file.path(), 0, bytes, SourceDtype::bf16, rows, cols, 0};
  Pool pool(2);
  if (!os::reset_peak_resident()) SKIP("this system does not let the peak be reset");
  const int64_t before = os::resident_memory().resident;
  const Weight weight = load_weight(pool, source, StorageFormat::nf4_double);
  const int64_t grown = os::resident_memory().peak - before;
  const int64_t planned =
      weight_bytes(StorageFormat::nf4_double, rows, cols) + constants_bytes(StorageFormat::nf4_double, rows, cols);
  const int64_t absmax = code_blocks(rows * cols) * 4;
  CHECK_LE(grown, planned + absmax + (8 << 20));
  CHECK_LE(planned, grown);
}

TEST("a truncated file is refused with its name, the tensor's and both sizes") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::bf16, 4, 64);
  const Source source(tensor.bytes, SourceDtype::bf16, 4, 64, 3);
  try {
    load_weight(pool, source.tensor, StorageFormat::nf4);
    CHECK(!"loaded");
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_EQ(std::string(error.code()), "FILE_FORMAT");
    for (const std::string& part : {source.tensor.name, source.tensor.file, std::string("512 bytes at offset 24"),
                                    std::string("has 533 bytes")}) {
      CHECK(message.find(part) != std::string::npos);
    }
  }
}

TEST("shapes, sizes and positions that do not fit together are refused") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::q8_0, 4, 64);
  const Source good(tensor.bytes, SourceDtype::q8_0, 4, 64);
  const auto load = [&](auto change) {
    TensorSource source = good.tensor;
    change(source);
    load_weight(pool, source, StorageFormat::bf16);
  };
  CHECK_THROWS(load([](TensorSource& s) { s.file = "/no/such/file"; }), "cannot be opened");
  CHECK_THROWS(load([](TensorSource& s) { s.rows = 0; }), "expected positive sizes");
  CHECK_THROWS(load([](TensorSource& s) {
                 s.rows = -4;
                 s.cols = -64;
               }),
               "expected positive sizes");
  CHECK_THROWS(load([](TensorSource& s) { s.rows = int64_t{1} << 62; }), "expected positive sizes");
  CHECK_THROWS(load([](TensorSource& s) { s.cols = 48; }), "blocks of 32");
  CHECK_THROWS(load([](TensorSource& s) { s.bytes -= 1; }), "takes 271 bytes");
  CHECK_THROWS(load([](TensorSource& s) { s.offset = -1; }), "offset -1");
  CHECK_THROWS(load([](TensorSource& s) { s.offset = int64_t{1} << 62; }), "the file has");
  CHECK_THROWS(load([](TensorSource& s) { s.permuted_heads = 3; }), "into 3 heads");
  CHECK_THROWS(load([](TensorSource& s) { s.permuted_heads = 4; }), "even number of rows");
  CHECK_THROWS(load([](TensorSource& s) { s.permuted_heads = -1; }), "heads");
  CHECK_THROWS(load([](TensorSource& s) { s.head_order = {6, 2, 1}; }), "too few for 6 value heads of 1");
  CHECK_THROWS(load([](TensorSource& s) { s.head_order = {4, 3, 1}; }), "value heads");
  CHECK_THROWS(load([](TensorSource& s) { s.head_order = {4, 2, 32, 0, true}; }), "64 columns, too few");
  load([](TensorSource&) {});
}

TEST("a value that is not finite cannot become a code: the message says which tensor and where") {
  Pool pool(2);
  Encoded tensor = encode(SourceDtype::f32, 40, 41);
  const float infinity = std::numeric_limits<float>::infinity();
  std::memcpy(tensor.bytes.data() + (17 * 41 + 5) * 4, &infinity, 4);
  const Source source(tensor.bytes, SourceDtype::f32, 40, 41);
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::nf4), "q_proj.weight");
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::nf4), "inf at row 17, column 5");
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::nf4_double, chunks_of(100)), "inf at row 17, column 5");
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::int8, chunks_of(100)), "inf at row 17, column 5");
  CHECK_EQ(decoded(load_weight(pool, source.tensor, StorageFormat::f32))[17 * 41 + 5], infinity);
}

TEST("a row whose magnitudes are near the smallest that there are becomes zeros in int8") {
  const float row[4] = {1e-37f, -1e-37f, 0, 2e-38f};
  int8_t codes[4];
  const float absmax = quantize_int8(row, 4, codes);
  CHECK_EQ(absmax, 1e-37f);
  for (const int8_t code : codes) CHECK_EQ(static_cast<int>(code), 0);
}

TEST("f16 storage is for f16 tensors only") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::bf16, 2, 8);
  const Source source(tensor.bytes, SourceDtype::bf16, 2, 8);
  CHECK_THROWS(load_weight(pool, source.tensor, StorageFormat::f16), "Store it as bf16 or f32");
}

TEST("a canceled load ends with ABORTED and keeps nothing") {
  Pool pool(1);
  const Encoded tensor = encode(SourceDtype::f32, 8, 64);
  const Source source(tensor.bytes, SourceDtype::f32, 8, 64);
  const std::atomic<bool> cancel{true};
  const int64_t before = allocated_bytes(Category::weights);
  try {
    load_weight(pool, source.tensor, StorageFormat::f32, {.cancel = &cancel});
    CHECK(!"loaded");
  } catch (const Error& error) {
    CHECK_EQ(std::string(error.code()), "ABORTED");
  }
  CHECK_EQ(allocated_bytes(Category::weights), before);
}
