// NF4 against bytes that bitsandbytes produced, and the properties that hold for any input.
#include "quant/four_bit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "quant/four_bit_packing.h"
#include "sha256.h"

namespace {

using namespace lowrank;

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
  int64_t bad = -1;
};

Quantized quantize(const std::vector<float>& weights) {
  const auto count = static_cast<int64_t>(weights.size());
  Quantized result;
  result.codes.resize(code_bytes(count));
  result.absmax.resize(code_blocks(count));
  result.bad = quantize_four_bit(FourBit::nf4, weights.data(), count, result.codes.data(), result.absmax.data());
  return result;
}

std::string hex(const std::vector<uint8_t>& bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

/// The bytes as bitsandbytes packs them.
std::string packed(const std::vector<float>& weights) {
  std::vector<uint8_t> bytes(packed_code_bytes(weights.size()));
  pack_codes(quantize(weights).codes.data(), weights.size(), bytes.data());
  return hex(bytes);
}

WeightView view_of(const Quantized& weights, int64_t rows, int64_t cols) {
  WeightView view;
  view.format = WeightFormat::four_bit;
  view.rows = rows;
  view.cols = cols;
  view.ld = cols;
  view.data = weights.codes.data();
  view.absmax = weights.absmax.data();
  return view;
}

std::vector<float> decode(const Quantized& weights, int64_t count) {
  std::vector<float> values(count);
  decode_row(view_of(weights, 1, count), 0, 0, count, values.data());
  return values;
}

std::vector<float> gaussian(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace

TEST("the signed dynamic map has the bytes that checkpoints carry") {
  CHECK_EQ(test::sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQ(test::sha256(kDynamicMap, sizeof kDynamicMap),
           "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
}

TEST("the NF4 values ascend and have the published bits") {
  const uint32_t bits[16] = {0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f,
                             0xbdba7871, 0,          0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a,
                             0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000};
  for (int i = 0; i < 16; ++i) CHECK_EQ(std::bit_cast<uint32_t>(kNf4Values[i]), bits[i]);
  CHECK(std::is_sorted(kNf4Values, kNf4Values + 16));
}

TEST("a short block gets the bytes and values of bitsandbytes") {
  const std::vector<float> weights = {0.5f, -1.0f, 0.25f, 0.03f, -0.7f, 0.9f, 0.0f, -0.04f};
  CHECK_EQ(packed(weights), "c0a71f77");
  const Quantized quantized = quantize(weights);
  CHECK_EQ(quantized.absmax[0], 1.0f);
  const std::vector<float> expected = {0.44070983f, -1, 0.2461123f, 0, -0.6961928f, 1, 0, 0};
  CHECK(decode(quantized, 8) == expected);
}

TEST("a ramp over one block gets the bytes of bitsandbytes") {
  std::vector<float> weights(64);
  for (int i = 0; i < 64; ++i) weights[i] = static_cast<float>((i - 31.5) / 32 * 0.02);
  CHECK_EQ(packed(weights), "00000111111112222233344445556667788899aaabbbccccddddeeeeeeefffff");
  CHECK_EQ(std::bit_cast<uint32_t>(quantize(weights).absmax[0]), 0x3ca147aeu);
}

TEST("an odd count ends with the code of zero") {
  CHECK_EQ(packed({1, 2, 3, 4, 5}), "9cdef7");
  CHECK_EQ(quantize({1, 2, 3, 4, 5}).absmax[0], 5.0f);
}

TEST("a last partial block is scaled by its own weights") {
  std::vector<float> weights(70);
  for (int i = 0; i < 70; ++i) weights[i] = static_cast<float>((37 * i % 101 - 50) / 50.0);
  CHECK_EQ(packed(weights), "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c16e18f2");
  const Quantized quantized = quantize(weights);
  CHECK_EQ(quantized.absmax[0], 1.0f);
  CHECK_EQ(quantized.absmax[1], 0.84f);
}

TEST("a weight on a threshold takes the lower code and the next number above it the higher one") {
  for (int i = 0; i < 15; ++i) {
    const float threshold = (kNf4Values[i] + kNf4Values[i + 1]) * 0.5f;
    std::vector<float> weights = {1.0f, threshold, std::nextafter(threshold, 2.0f)};
    const Quantized quantized = quantize(weights);
    CHECK_EQ(quantized.codes[1] & 15, i);
    CHECK_EQ(quantized.codes[2] & 15, i + 1);
  }
}

TEST("blocks of zeros and of numbers too small for a reciprocal decode to zero") {
  for (const float tiny : {0.0f, -0.0f, 1e-39f, std::numeric_limits<float>::denorm_min()}) {
    std::vector<float> weights(80, tiny);
    const Quantized quantized = quantize(weights);
    CHECK_EQ(hex(quantized.codes), std::string(128, '7'));
    CHECK_EQ(quantized.absmax[0], tiny);
    CHECK(decode(quantized, 80) == std::vector<float>(80, 0.0f));
  }
}

TEST("a block with NaN or infinity is reported, the first one where there are several") {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> weights(64 * 5 + 3, 1.0f);
    CHECK_EQ(quantize(weights).bad, -1);
    weights[64 * 5 + 1] = value;
    CHECK_EQ(quantize(weights).bad, 5);
    weights[64 * 3] = value;
    CHECK_EQ(quantize(weights).bad, 3);
  }
}

TEST("every weight decodes to the nearest of the sixteen values of its block") {
  const std::vector<float> weights = gaussian(64 * 50 + 17, 1);
  const Quantized quantized = quantize(weights);
  const std::vector<float> decoded = decode(quantized, weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const float scale = quantized.absmax[i / 64];
    double nearest = 1e9;
    for (const float value : kNf4Values) nearest = std::min(nearest, std::fabs(double{value} * scale - weights[i]));
    CHECK_LE(std::fabs(double{decoded[i]} - weights[i]), nearest + 1e-6 * scale);
  }
}

TEST("the error on Gaussian weights is the known 9.2 percent, with and without double quantization") {
  const std::vector<float> weights = gaussian(1 << 18, 2);
  const auto count = static_cast<int64_t>(weights.size());
  const Quantized quantized = quantize(weights);
  CHECK_CLOSE(test::relative_error(decode(quantized, count), weights), 0.0919, 0.005);

  std::vector<uint8_t> codes(quantized.absmax.size());
  std::vector<float> nested(nested_blocks(quantized.absmax.size()));
  WeightView view = view_of(quantized, 1, count);
  view.absmax = nullptr;
  view.absmax_offset = quantize_absmax(quantized.absmax.data(), codes.size(), codes.data(), nested.data());
  view.absmax_codes = codes.data();
  view.nested_absmax = nested.data();
  std::vector<float> decoded(count);
  decode_row(view, 0, 0, count, decoded.data());
  CHECK_CLOSE(test::relative_error(decoded, weights), 0.0919, 0.005);
}

TEST("the error of FP4 on Gaussian weights is the known 12.2 percent") {
  const std::vector<float> weights = gaussian(1 << 18, 2);
  const auto count = static_cast<int64_t>(weights.size());
  Quantized quantized;
  quantized.codes.resize(code_bytes(count));
  quantized.absmax.resize(code_blocks(count));
  quantize_four_bit(FourBit::fp4, weights.data(), count, quantized.codes.data(), quantized.absmax.data());
  WeightView view = view_of(quantized, 1, count);
  view.values = kFp4Values;
  std::vector<float> decoded(count);
  decode_row(view, 0, 0, count, decoded.data());
  CHECK_CLOSE(test::relative_error(decoded, weights), 0.1218, 0.005);
}

TEST("quantizing what was decoded gives the same codes") {
  const std::vector<float> weights = gaussian(64 * 40 + 5, 3);
  const Quantized once = quantize(weights);
  const Quantized twice = quantize(decode(once, weights.size()));
  CHECK(once.codes == twice.codes);
  CHECK(once.absmax == twice.absmax);
}

TEST("codes keep their order through the bytes of bitsandbytes and back, for any count") {
  for (const int64_t count : {1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000, 1001}) {
    const std::vector<float> weights = gaussian(count, static_cast<unsigned>(count));
    const Quantized quantized = quantize(weights);
    std::vector<uint8_t> bytes(packed_code_bytes(count));
    pack_codes(quantized.codes.data(), count, bytes.data());
    for (int64_t i = 0; i < count; ++i) {
      const uint8_t ours = quantized.codes[i / 64 * 32 + i % 32];
      const uint8_t theirs = bytes[i / 2];
      CHECK_EQ(i % 64 < 32 ? ours & 15 : ours >> 4, i % 2 == 0 ? theirs >> 4 : theirs & 15);
    }
    std::vector<uint8_t> back(code_bytes(count), 0xee);
    unpack_codes(bytes.data(), count, zero_code(FourBit::nf4), back.data());
    CHECK(back == quantized.codes);
  }
}

TEST("any part of any row decodes as the whole does, also where blocks cross rows") {
  const int64_t rows = 7, cols = 41;
  const std::vector<float> weights = gaussian(rows * cols, 4);
  const Quantized quantized = quantize(weights);
  const std::vector<float> whole = decode(quantized, rows * cols);
  const WeightView view = view_of(quantized, rows, cols);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t begin = 0; begin < cols; ++begin) {
      std::vector<float> part(cols - begin);
      decode_row(view, row, begin, cols - begin, part.data());
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + row * cols + begin));
    }
  }
}

TEST("double quantization gives the codes and scales of the published example") {
  const std::vector<float> absmax = {0.02f, 0.03f, 0.025f, 0.04f};
  uint8_t codes[4];
  float nested[1];
  const float offset = quantize_absmax(absmax.data(), 4, codes, nested);
  CHECK_EQ(offset, 0.028749998658895493f);
  CHECK_EQ(nested[0], 0.011250000447034836f);
  const uint8_t expected_codes[4] = {15, 191, 47, 255};
  const float expected[4] = {0.01995214819908142f, 0.029954100027680397f, 0.025014646351337433f, 0.03999999910593033f};
  WeightView view;
  view.absmax_codes = codes;
  view.nested_absmax = nested;
  view.absmax_offset = offset;
  for (int i = 0; i < 4; ++i) {
    CHECK_EQ(codes[i], expected_codes[i]);
    CHECK_EQ(view.scale_of_block(i), expected[i]);
  }
}

TEST("equal absmax values need no nested scale: each decodes to the mean") {
  const std::vector<float> absmax(300, 0.5f);
  std::vector<uint8_t> codes(300);
  float nested[2] = {-1, -1};
  CHECK_EQ(quantize_absmax(absmax.data(), 300, codes.data(), nested), 0.5f);
  CHECK_EQ(nested[0], 0.0f);
  CHECK_EQ(nested[1], 0.0f);
  CHECK(codes == std::vector<uint8_t>(300, 127));
}

TEST("absmax codes are the nearest entries of the map, the lower one on ties") {
  // 128 magnitudes up to one, each 32 places before its negative: the sums behind the mean cancel exactly, so the
  // values themselves are what is looked up.
  std::vector<float> values(256);
  std::vector<int> expected(256);
  for (int k = 0; k < 128; ++k) {
    const int at = k / 32 * 64 + k % 32;
    const int low = 128 + k;  // the magnitude is midway between entries `low` and `low + 1`; the last one is 1
    values[at] = low == 255 ? 1.0f : (kDynamicMap[low] + kDynamicMap[low + 1]) * 0.5f;
    values[at + 32] = -values[at];
    expected[at] = low;
    expected[at + 32] = std::max(0, 253 - low);  // -1 and what is nearest to it take the smallest entry
  }
  uint8_t codes[256];
  float nested[1];
  CHECK_EQ(quantize_absmax(values.data(), 256, codes, nested), 0.0f);
  CHECK_EQ(nested[0], 1.0f);
  for (int i = 0; i < 256; ++i) CHECK_EQ(codes[i], expected[i]);
}

TEST("the mean has the bits of torch's on one thread") {
  // Made by torch_mean.py with torch 2.9.0.
  const struct {
    int64_t count;
    uint32_t bits;
  } cases[] = {{1, 0x3dcccccd},    {7, 0x4222be2b},     {8, 0x423dccce},     {31, 0x424a1085},    {32, 0x4247899a},
               {33, 0x42434f21},   {100, 0x424bd605},   {511, 0x4249ef5f},   {512, 0x4249f266},   {513, 0x4249d6e2},
               {5000, 0x424a0b0f}, {13824, 0x424a009c}, {32767, 0x424a0132}, {100003, 0x424a0082}};
  for (const auto& [count, bits] : cases) {
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(i * 7919 % 1009 + 1) * 0.1f;
    CHECK_EQ(std::bit_cast<uint32_t>(mean_f32(values.data(), count)), bits);
  }
}
