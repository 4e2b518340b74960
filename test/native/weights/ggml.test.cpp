// Tensors in GGML's block formats against values that the gguf package decoded from the same bytes
// (test/parity/ggml, made by make_ggml.py): random codes, scales from the smallest half to the largest.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "golden.h"
#include "weights/weights.h"

namespace {

using namespace lowrank;

std::string lowercase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

const struct {
  const char* name;
  SourceDtype dtype;
} kTypes[] = {{"Q8_0", SourceDtype::q8_0}, {"Q4_0", SourceDtype::q4_0}, {"Q4_1", SourceDtype::q4_1},
              {"Q5_0", SourceDtype::q5_0}, {"Q5_1", SourceDtype::q5_1}, {"IQ4_NL", SourceDtype::iq4_nl},
              {"Q2_K", SourceDtype::q2_k}, {"Q3_K", SourceDtype::q3_k}, {"Q4_K", SourceDtype::q4_k},
              {"Q5_K", SourceDtype::q5_k}, {"Q6_K", SourceDtype::q6_k}, {"IQ4_XS", SourceDtype::iq4_xs}};

const test::GoldenFile& golden() {
  static const test::GoldenFile file("ggml/blocks.safetensors");
  return file;
}

/// One block a row, as the golden file has them.
TensorSource source_of(const std::string& name, SourceDtype dtype) {
  const test::GoldenTensor& blocks = golden().at(name + ".blocks");
  return {name,
          golden().path(),
          blocks.offset,
          blocks.bytes,
          dtype,
          blocks.shape.at(0),
          golden().at(name + ".values").shape.at(1),
          0};
}

bool same_bits(const std::vector<float>& a, const void* b) { return std::memcmp(a.data(), b, a.size() * 4) == 0; }

}  // namespace

TEST("every block format decodes to the bits of the gguf package") {
  Pool pool(2);
  for (const auto& [name, dtype] : kTypes) {
    const Weight weight = load_weight(pool, source_of(name, dtype), StorageFormat::f32);
    const auto expected = golden().values<float>(std::string(name) + ".values");
    REQUIRE(static_cast<int64_t>(expected.size()) == weight.rows() * weight.cols());
    if (!same_bits(expected, weight.data())) std::fprintf(stderr, "%s differs\n", name);
    CHECK(same_bits(expected, weight.data()));
  }
}

TEST("a row of several blocks is their values one after the other") {
  Pool pool(1);
  for (const auto& [name, dtype] : kTypes) {
    TensorSource source = source_of(name, dtype);
    source.rows /= 4;
    source.cols *= 4;
    CHECK(same_bits(golden().values<float>(std::string(name) + ".values"),
                    load_weight(pool, source, StorageFormat::f32).data()));
  }
}

TEST("rows of blocks that are stored in rotary pairs come back in order") {
  Pool pool(2);
  for (const auto& [name, dtype] : kTypes) {
    TensorSource source = source_of(name, dtype);
    source.permuted_heads = 2;
    const Weight weight = load_weight(pool, source, StorageFormat::f32);
    const auto stored = golden().values<float>(std::string(name) + ".values");
    // Two heads of six rows: rows 0, 1, 2, 3 … of the file are 0, 3, 1, 4 … of the head.
    const int64_t cols = source.cols;
    const int place[] = {0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11};
    for (int row = 0; row < 12; ++row)
      CHECK(std::memcmp(static_cast<float*>(weight.data()) + place[row] * cols, stored.data() + row * cols, cols * 4) ==
            0);
  }
}

TEST("blocks that stay in their file decode to what loading gives, and take no memory") {
  Pool pool(2);
  const auto file = std::make_shared<const os::MappedFile>(golden().path());
  const int64_t before = allocated_bytes(Category::weights);
  for (const auto& [name, dtype] : kTypes) {
    for (const int64_t heads : {0, 2}) {
      TensorSource source = source_of(name, dtype);
      source.permuted_heads = heads;
      const auto format =
          static_cast<StorageFormat>(static_cast<int>(StorageFormat::q8_0) + static_cast<int>(*ggml_of(dtype)));
      const Weight kept = map_weight(source, format, file);
      CHECK_EQ(allocated_bytes(Category::weights), before);
      CHECK_EQ(weight_bytes(format, kept.rows(), kept.cols()), source.bytes);
      CHECK_EQ(lowercase(name_of(dtype)), std::string(name_of(format)));
      const Weight loaded = load_weight(pool, source, StorageFormat::f32);
      // Read into memory, the same blocks have their rows in order.
      const Weight copied = load_weight(pool, source, format);
      CHECK_EQ(copied.view().head_rows, int64_t{0});
      std::vector<float> row(static_cast<size_t>(source.cols));
      for (int64_t r = 0; r < source.rows; ++r) {
        const float* const expected = static_cast<const float*>(loaded.data()) + r * source.cols;
        decode_row(kept.view(), r, 0, source.cols, row.data());
        CHECK(same_bits(row, expected));
        decode_row(copied.view(), r, 0, source.cols, row.data());
        CHECK(same_bits(row, expected));
        // From the middle of a block, too.
        decode_row(kept.view(), r, 17, 3, row.data());
        CHECK(std::memcmp(row.data(), expected + 17, 3 * sizeof(float)) == 0);
      }
    }
  }
}

TEST("only blocks of the file's own type can stay, and all of them must be in the file") {
  const auto file = std::make_shared<const os::MappedFile>(golden().path());
  const auto refused = [&](const TensorSource& source, StorageFormat format) {
    try {
      map_weight(source, format, file);
      return std::string("mapped");
    } catch (const Error& error) {
      return std::string(error.code());
    }
  };
  const TensorSource good = source_of("Q4_K", SourceDtype::q4_k);
  CHECK_EQ(refused(good, StorageFormat::q4_k), std::string("mapped"));
  CHECK_EQ(refused(good, StorageFormat::q5_k), std::string("UNSUPPORTED"));
  CHECK_EQ(refused(good, StorageFormat::nf4), std::string("UNSUPPORTED"));
  TensorSource truncated = good;
  truncated.offset = file->bytes() - 1;
  CHECK_EQ(refused(truncated, StorageFormat::q4_k), std::string("FILE_FORMAT"));
  TensorSource odd = good;
  odd.permuted_heads = 5;
  CHECK_EQ(refused(odd, StorageFormat::q4_k), std::string("FILE_FORMAT"));
}

TEST("rows that are no whole blocks, and sizes that do not fit the shape, are refused") {
  Pool pool(1);
  for (const auto& [name, dtype] : kTypes) {
    const TensorSource good = source_of(name, dtype);
    const auto refused = [&](int64_t rows, int64_t cols, int64_t bytes) {
      TensorSource source = good;
      source.rows = rows;
      source.cols = cols;
      source.bytes = bytes;
      try {
        load_weight(pool, source, StorageFormat::f32);
        return std::string("loaded");
      } catch (const Error& error) {
        return std::string(error.code());
      }
    };
    CHECK_EQ(refused(good.rows, good.cols - 16, good.bytes), std::string("FILE_FORMAT"));
    CHECK_EQ(refused(good.rows + 1, good.cols, good.bytes), std::string("FILE_FORMAT"));
    CHECK_EQ(refused(good.rows, good.cols, good.bytes + 2), std::string("FILE_FORMAT"));
    CHECK_EQ(refused(good.rows, int64_t{1} << 43, good.bytes), std::string("FILE_FORMAT"));
    CHECK_EQ(refused(int64_t{1} << 40, good.cols, int64_t{1} << 50), std::string("FILE_FORMAT"));
  }
}
