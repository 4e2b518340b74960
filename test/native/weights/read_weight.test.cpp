// Weights on their way out: every storage format into every file type, adapters added, rows in GGUF's order.
#include "weights/read_weight.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "adapters/adapter.h"
#include "adapters/values.h"
#include "check.h"
#include "core/dtype.h"
#include "host.h"
#include "quant/four_bit.h"
#include "quant/ggml.h"

namespace {

using namespace lowrank;

constexpr int64_t kRows = 24, kCols = 64;

Weight weight(int64_t rows = kRows, int64_t cols = kCols) {
  Weight w(StorageFormat::f32, rows, cols);
  fill_normal(static_cast<float*>(w.data()), rows * cols, 0.05f, 3, "weight");
  return w;
}

std::vector<uint8_t> read(const Weight& w, const ReadOptions& options,
                          const std::vector<WeightedAdapter>& adapters = {}) {
  Pool pool(2);
  return read_weight(pool, w, "w", adapters, options, nullptr);
}

std::vector<float> read_f32(const Weight& w, ReadOptions options = {},
                            const std::vector<WeightedAdapter>& adapters = {}) {
  if (options.count == 0) options.count = w.rows();
  const std::vector<uint8_t> bytes = read(w, options, adapters);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<float> stored(const Weight& w) {
  std::vector<float> values(w.rows() * w.cols());
  for (int64_t row = 0; row < w.rows(); ++row) decode_row(w.view(), row, 0, w.cols(), values.data() + row * w.cols());
  return values;
}

std::unique_ptr<HostAdapter> adapter(float scale, int64_t rank, uint64_t seed) {
  AdapterSpec spec;
  spec.parameters = {{"A", rank, kCols, true}, {"B", kRows, rank, true}, {"d", 1, rank, true}};
  spec.terms = {
      {"low_rank", "here", {{"a", 0}, {"b", 1}, {"d", 2}}, {{"rank", static_cast<double>(rank)}, {"scale", scale}}}};
  auto made = std::make_unique<HostAdapter>(std::move(spec));
  for (int i = 0; i < 3; ++i) {
    const ParameterSpec& p = made->spec().parameters[i];
    fill_normal(made->data(i), p.rows * p.cols, 1, seed, p.name);
  }
  return made;
}

}  // namespace

TEST("a read weight is what the kernels see, whatever its format") {
  const Weight plain = weight();
  CHECK(read_f32(plain) == stored(plain));
  Weight half(StorageFormat::bf16, kRows, kCols);
  for (int64_t i = 0; i < kRows * kCols; ++i)
    static_cast<uint16_t*>(half.data())[i] = bf16_from_f32(static_cast<float*>(plain.data())[i]);
  CHECK(read_f32(half) == stored(half));
  Weight codes(StorageFormat::nf4, kRows, kCols);
  for (int64_t i = 0; i < kRows * kCols / 2; ++i) static_cast<uint8_t*>(codes.data())[i] = static_cast<uint8_t>(i * 37);
  for (int64_t i = 0; i < kRows * kCols / 64; ++i) codes.absmax()[i] = 0.01f * static_cast<float>(i + 1);
  CHECK(read_f32(codes) == stored(codes));
}

TEST("adapters add their weight times scale * B d A, summed in fp32, and only those of the target") {
  const Weight w = weight();
  const auto one = adapter(0.5f, 4, 1), two = adapter(-0.25f, 8, 2);
  ReadOptions options;
  options.target = "here";
  const std::vector<float> base = stored(w), merged = read_f32(w, options, {{one.get(), 1}, {two.get(), 3}});
  std::vector<double> expected(base.begin(), base.end());
  for (const HostAdapter* a : {one.get(), two.get()}) {
    const double scale = a->spec().terms[0].numbers.at("scale");
    const int64_t rank = a->spec().facts[0].rank;
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t k = 0; k < kCols; ++k)
        for (int64_t j = 0; j < rank; ++j)
          expected[i * kCols + k] += (a == two.get() ? 3.0 : 1.0) * scale * a->data(1)[i * rank + j] * a->data(2)[j] *
                                     a->data(0)[j * kCols + k];
  }
  for (size_t i = 0; i < merged.size(); ++i) CHECK_LE(std::fabs(merged[i] - expected[i]), 1e-5);
  options.target = "elsewhere";
  CHECK(read_f32(w, options, {{one.get(), 1}}) == base);
}

TEST("an adapter with a magnitude gives rows of that length, and at a weight its share of the difference") {
  const Weight w = weight();
  AdapterSpec spec = adapter(0.5f, 4, 1)->spec();
  spec.parameters.push_back({"m", 1, kRows, true});
  spec.terms[0].parameters["magnitude"] = 3;
  const HostAdapter dora(std::move(spec));
  for (int i = 0; i < 4; ++i) {
    const ParameterSpec& p = dora.spec().parameters[i];
    fill_normal(dora.data(i), p.rows * p.cols, i == 3 ? 0.5f : 0.2f, 4, p.name);
  }
  const auto plain = adapter(0.25f, 2, 7);
  ReadOptions options;
  options.target = "here";
  const std::vector<float> base = stored(w), alone = read_f32(w, options, {{&dora, 1}});
  const double scale = dora.spec().terms[0].numbers.at("scale");
  for (int64_t i = 0; i < kRows; ++i) {
    std::vector<double> row(base.begin() + i * kCols, base.begin() + (i + 1) * kCols);
    double square = 0;
    for (int64_t k = 0; k < kCols; ++k) {
      for (int64_t j = 0; j < 4; ++j)
        row[k] += scale * double{dora.data(1)[i * 4 + j]} * dora.data(2)[j] * dora.data(0)[j * kCols + k];
      square += row[k] * row[k];
    }
    for (int64_t k = 0; k < kCols; ++k)
      CHECK_LE(std::fabs(alone[i * kCols + k] - dora.data(3)[i] * row[k] / std::sqrt(square)), 1e-6);
  }
  const std::vector<float> other = read_f32(w, options, {{plain.get(), 1}});
  const std::vector<float> both = read_f32(w, options, {{plain.get(), 2}, {&dora, 0.5f}});
  for (size_t i = 0; i < both.size(); ++i)
    CHECK_LE(std::fabs(both[i] - (base[i] + 2 * (other[i] - base[i]) + 0.5f * (alone[i] - base[i]))), 1e-5);
}

TEST("a copy that an adapter trains stands in for the weight") {
  AdapterSpec spec;
  spec.parameters = {{"copy", kRows, kCols, true}, {"other", 1, 4, true}};
  spec.copies = {{"w", 0}, {"v", 1}};
  const HostAdapter trained(std::move(spec));
  fill_normal(trained.data(0), kRows * kCols, 1, 9, "copy");
  const std::vector<float> copy(trained.data(0), trained.data(0) + kRows * kCols);
  const Weight w = weight();
  CHECK(read_f32(w, {}, {{&trained, 1}}) == copy);
  Pool pool(1);
  ReadOptions options;
  options.count = kRows;
  CHECK_THROWS(read_weight(pool, w, "v", {{&trained, 1}}, options, nullptr), "the copy of v is [1, 4]");
}

TEST("16-bit files have each number rounded once, Q8_0 files ggml's blocks") {
  const Weight w = weight();
  const std::vector<float> values = stored(w);
  ReadOptions options;
  options.count = kRows;
  for (const FileType type : {FileType::bf16, FileType::f16}) {
    options.type = type;
    const std::vector<uint8_t> bytes = read(w, options);
    REQUIRE(bytes.size() == values.size() * 2);
    for (size_t i = 0; i < values.size(); ++i) {
      uint16_t number;
      std::memcpy(&number, bytes.data() + 2 * i, 2);
      CHECK_EQ(number, type == FileType::bf16 ? bf16_from_f32(values[i]) : f16_from_f32(values[i]));
    }
  }
  options.type = FileType::q8_0;
  std::vector<uint8_t> blocks(values.size() / 32 * kQ8_0Bytes);
  encode_q8_0(values.data(), static_cast<int64_t>(values.size()), blocks.data());
  CHECK(read(w, options) == blocks);
}

TEST("rows come by parts and in GGUF's order, elements of a bias too") {
  const Weight w = weight(16, 3);
  const std::vector<float> values = stored(w);
  ReadOptions options;
  options.permuted_heads = 2;
  const std::vector<float> permuted = read_f32(w, options);
  // Two heads of eight rows: the order is 0 4 1 5 2 6 3 7.
  const int order[] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 3; ++k) CHECK_EQ(permuted[row * 3 + k], values[order[row] * 3 + k]);
  options.begin = 5;
  options.count = 4;
  CHECK(read_f32(w, options) == std::vector<float>(permuted.begin() + 15, permuted.begin() + 27));

  const Weight bias = weight(1, 16);
  ReadOptions whole;
  whole.permuted_heads = 2;
  const std::vector<float> elements = read_f32(bias, whole), plain = stored(bias);
  for (int i = 0; i < 16; ++i) CHECK_EQ(elements[i], plain[order[i]]);
}

TEST("value heads come in GGUF's order, as rows, as columns, and as elements, and logarithms as rates") {
  const int order[] = {0, 2, 4, 1, 3, 5};  // of six value heads, two to a key head
  const Weight w = weight(13, 3), wide = weight(2, 12), vector = weight(1, 6);
  const std::vector<float> values = stored(w), wide_values = stored(wide), elements = stored(vector);
  ReadOptions options;
  options.head_order = {6, 3, 2, 1};
  const std::vector<float> rows = read_f32(w, options);
  for (int k = 0; k < 3; ++k) CHECK_EQ(rows[k], values[k]);
  for (int row = 0; row < 12; ++row)
    for (int k = 0; k < 3; ++k) CHECK_EQ(rows[(1 + row) * 3 + k], values[(1 + order[row / 2] * 2 + row % 2) * 3 + k]);
  options.begin = 5;
  options.count = 4;
  CHECK(read_f32(w, options) == std::vector<float>(rows.begin() + 15, rows.begin() + 27));

  ReadOptions columns;
  columns.head_order = {6, 3, 2, 0, true};
  const std::vector<float> found = read_f32(wide, columns);
  for (int row = 0; row < 2; ++row)
    for (int k = 0; k < 12; ++k) CHECK_EQ(found[row * 12 + k], wide_values[row * 12 + order[k / 2] * 2 + k % 2]);

  ReadOptions rates;
  rates.head_order = {6, 3, 1};
  rates.negated_exp = true;
  const std::vector<float> turned = read_f32(vector, rates);
  for (int i = 0; i < 6; ++i) CHECK_CLOSE(turned[i], -std::exp(elements[order[i]]), 2e-7);
  rates.head_order.heads = 9;
  CHECK_THROWS(read_f32(vector, rates), "value heads need 9");
}

TEST("rows that do not exist, wrong heads and numbers that do not fit are refused") {
  Weight w = weight();
  ReadOptions options;
  options.begin = 20;
  options.count = 5;
  CHECK_THROWS(read(w, options), "w has 24 rows; cannot read rows 20 to 25");
  options = {};
  options.count = kRows;
  options.permuted_heads = 5;
  CHECK_THROWS(read(w, options), "24 rows, which cannot be divided into 5 heads");
  options.permuted_heads = 0;
  options.type = FileType::q8_0;
  const Weight narrow = weight(kRows, 40);
  CHECK_THROWS(read(narrow, options), "rows of 40 numbers");
  static_cast<float*>(w.data())[70] = 70000;
  CHECK_EQ(read(w, options).size(), kRows * 68u);
  options.type = FileType::f16;
  CHECK_THROWS(read(w, options), "not finite or too large for f16");
  static_cast<float*>(w.data())[70] = std::numeric_limits<float>::quiet_NaN();
  options.type = FileType::f32;
  CHECK_THROWS(read(w, options), "not finite");

  Weight other = weight(kRows, 32);
  const auto a = adapter(1, 4, 1);
  options.target = "here";
  CHECK_THROWS(read(other, options, {{a.get(), 1}}), "adapter at here: A is [4, 64] and B [24, 4] but w is [24, 32]");
}

TEST("a row of an embedding has the scaled product of its token's column of A and of B added") {
  constexpr int64_t kRank = 3;
  AdapterSpec spec;
  spec.parameters = {{"A", kRank, kRows, true}, {"B", kCols, kRank, true}};
  spec.terms = {{"embedding", "here", {{"a", 0}, {"b", 1}}, {{"rank", kRank}, {"scale", 0.5}}}};
  HostAdapter made(std::move(spec));
  test::fill_all(made);
  const Weight table = weight();
  std::vector<float> expected = stored(table);
  for (int64_t id = 0; id < kRows; ++id)
    for (int64_t i = 0; i < kCols; ++i)
      for (int64_t j = 0; j < kRank; ++j)
        expected[id * kCols + i] += 2 * 0.5f * made.data(0)[j * kRows + id] * made.data(1)[i * kRank + j];
  ReadOptions options;
  options.target = "here";
  CHECK_ALL_CLOSE(read_f32(table, options, {{&made, 2.0f}}), expected, 1e-6);
}
