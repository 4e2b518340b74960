// The conversions of arrays against the conversions of single numbers, for every 16-bit pattern.
#include "quant/half.h"

#include <bit>
#include <random>
#include <vector>

#include "check.h"
#include "golden.h"

using namespace lowrank;

TEST("every fp16 and bf16 pattern widens as the single conversion does") {
  std::vector<uint16_t> all(65536);
  for (int i = 0; i < 65536; ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<float> halves(65536), brains(65536);
  decode_f16(all.data(), 65536, halves.data());
  decode_bf16(all.data(), 65536, brains.data());
  for (int i = 0; i < 65536; ++i) {
    CHECK_EQ(std::bit_cast<uint32_t>(halves[i]), std::bit_cast<uint32_t>(f32_from_f16(all[i])));
    CHECK_EQ(std::bit_cast<uint32_t>(brains[i]), std::bit_cast<uint32_t>(f32_from_bf16(all[i])));
  }
  CHECK_EQ(halves[0x0001], 0x1p-24f);
  CHECK_EQ(halves[0x03ff], 1023 * 0x1p-24f);
  CHECK_EQ(halves[0x7bff], 65504.0f);
  CHECK(std::isinf(halves[0xfc00]) && halves[0xfc00] < 0);
  CHECK(std::isnan(halves[0x7e00]));
}

TEST("bf16 rounds to nearest even and keeps NaN, infinity and its own values") {
  const auto encoded = [](uint32_t bits) {
    const float value = std::bit_cast<float>(bits);
    uint16_t out;
    encode_bf16(&value, 1, &out);
    return out;
  };
  CHECK_EQ(encoded(0x3f800000), 0x3f80);
  CHECK_EQ(encoded(0x3f808000), 0x3f80);  // a tie, down to even
  CHECK_EQ(encoded(0x3f818000), 0x3f82);  // a tie, up to even
  CHECK_EQ(encoded(0x3f808001), 0x3f81);
  CHECK_EQ(encoded(0x7f7fffff), 0x7f80);  // rounds up to infinity
  CHECK_EQ(encoded(0xff800000), 0xff80);
  CHECK_EQ(encoded(0x7f800001), 0x7fc0);  // stays a NaN although its payload is cut off
  std::mt19937 random(5);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    CHECK_EQ(encoded(bits), bf16_from_f32(std::bit_cast<float>(bits)));
  }
}

TEST("fp16 rounds to nearest even as torch does, and every half is its own") {
  const test::GoldenFile golden("gguf/blocks.safetensors");
  const std::vector<float> values = golden.values<float>("f16.input");
  const std::vector<uint16_t> expected = golden.values<uint16_t>("f16.output");
  for (size_t i = 0; i < values.size(); ++i) CHECK_EQ(f16_from_f32(values[i]), expected[i]);
  for (int half = 0; half < 65536; ++half) {
    const float value = f32_from_f16(static_cast<uint16_t>(half));
    const int same = std::isnan(value) ? half | 0x200 : half;
    CHECK_EQ(static_cast<int>(f16_from_f32(value)), same);
  }
}
