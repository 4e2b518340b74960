#include "quant/dynamic.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "quant/sha256.h"

using namespace lowrank;

namespace {

/// The number of midpoints below x: the nearest code, a tie the lower one.
uint8_t searched(const float* map, float x) {
  uint8_t code = 0;
  while (code < 255 && x > (map[code] + map[code + 1]) * 0.5f) ++code;
  return code;
}

std::vector<uint8_t> encoded(const DynamicCoder& coder, const std::vector<float>& values) {
  std::vector<uint8_t> codes(values.size());
  float absmax = 0, largest = 0;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  encode_block(coder, values.data(), largest, static_cast<int64_t>(values.size()), {codes.data(), &absmax});
  return codes;
}

}  // namespace

TEST("the unsigned dynamic map has the bytes of bitsandbytes") {
  CHECK_EQ(test::sha256(kUnsignedDynamicMap, sizeof kUnsignedDynamicMap),
           "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398");
}

TEST("codes are the nearest, on both sides of every border and anywhere else") {
  const DynamicCoder &with_sign = DynamicCoder::with_sign(), &without = DynamicCoder::without_sign();
  const auto check = [&](float x) {
    // Negative values keep their sign.
    const uint8_t nearest = searched(kDynamicMap, x);
    CHECK_EQ(with_sign.code(x), nearest == 127 && x < 0 ? 126 : nearest);
    if (x >= 0) CHECK_EQ(without.code(x), searched(kUnsignedDynamicMap, x));
  };
  for (const float* map : {kDynamicMap, kUnsignedDynamicMap})
    for (int i = 0; i < 255; ++i) {
      const float border = (map[i] + map[i + 1]) * 0.5f;
      for (const float x : {border, std::nextafter(border, -2.0f), std::nextafter(border, 2.0f), map[i], map[i + 1]})
        for (const float sign : {-1.0f, 1.0f}) check(sign * x);
    }
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-40, 0);
  for (int i = 0; i < 200000; ++i) check((i % 2 == 0 ? 1.0f : -1.0f) * std::exp2(exponent(random)));
  for (const float x : {0.0f, -0.0f, 1.0f, -1.0f, 1e-45f, -1e-45f}) check(x);
}

TEST("blocks get the codes of bitsandbytes") {
  CHECK(encoded(DynamicCoder::with_sign(), {1, -1, 0.5f, -0.5f, 0.1f, 1e-3f, 1e-6f, 0}) ==
        (std::vector<uint8_t>{255, 0, 219, 35, 190, 142, 128, 127}));
  CHECK(encoded(DynamicCoder::without_sign(), {1, 0.5f, 0.1f, 1e-3f, 1e-5f, 1e-7f, 0, 0.9f}) ==
        (std::vector<uint8_t>{255, 183, 126, 30, 6, 0, 0, 240}));
  CHECK(encoded(DynamicCoder::with_sign(), {0, -0.0f, 1e-40f, -1e-40f}) == (std::vector<uint8_t>{127, 127, 127, 127}));
}

TEST("what is no number gets a code all the same") {
  const float nan = std::nanf(""), infinite = INFINITY;
  for (const float x : {nan, -nan, infinite, -infinite}) {
    (void)DynamicCoder::with_sign().code(x);
    (void)DynamicCoder::without_sign().code(x);
  }
}
