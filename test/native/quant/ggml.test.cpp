// GGML blocks against bytes of ggml's own encoders and against blocks written by hand.
#include "quant/ggml.h"

#include <string_view>
#include <vector>

#include "check.h"
#include "golden.h"

using namespace lowrank;

namespace {

using Decoder = void (*)(const void*, int64_t, float*);

std::vector<uint8_t> bytes_of(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(digit(hex[i]) << 4 | digit(hex[i + 1])));
  return bytes;
}

std::vector<float> decode(Decoder decoder, const std::vector<uint8_t>& bytes, int64_t count = 32) {
  std::vector<float> values(count);
  decoder(bytes.data(), count, values.data());
  return values;
}

/// (i - 15.5) / 16, which the blocks below encode.
float ramp(int i) { return (static_cast<float>(i) - 15.5f) / 16; }

}  // namespace

TEST("a Q8_0 block of ggml decodes to d * q") {
  const auto bytes = bytes_of("d01f8189919aa2aab2bac3cbd3dbe3ecf4fc040c141d252d353d464e565e666f777f");
  const auto values = decode(decode_q8_0, bytes);
  const float d = 0x1.f4p-8f;  // the half 1fd0
  for (int i = 0; i < 32; ++i) {
    CHECK_EQ(values[i], d * static_cast<float>(static_cast<int8_t>(bytes[2 + i])));
    CHECK_LE(std::fabs(values[i] - ramp(i)), d * 0.51f);
  }
}

TEST("a Q4_0 block of ggml decodes to d * (q - 8), low nibbles first") {
  const auto values = decode(decode_q4_0, bytes_of("c02f809191a2a2b3b3c4c4d5d5e6e6f7f7f8"));
  const float d = 0x1.fp-4f;  // the half 2fc0
  const int q[32] = {0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,  8,
                     8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15};
  for (int i = 0; i < 32; ++i) CHECK_EQ(values[i], d * static_cast<float>(q[i] - 8));
}

TEST("a Q4_1 block of ggml decodes to d * q + m, the product rounded first") {
  const auto values = decode(decode_q4_1, bytes_of("2230c0bb80809191a2a2b3b3c4c4d5d5e6e6f7f7"));
  const float d = 0x1.088p-3f;  // the half 3022
  const float m = -0.96875f;    // the half bbc0
  for (int i = 0; i < 32; ++i) {
    const volatile float product = d * static_cast<float>(i / 2);
    CHECK_EQ(values[i], product + m);
    CHECK_LE(std::fabs(values[i] - ramp(i)), d * 0.51f);
  }
}

TEST("blocks decode one after the other, each with its own scale") {
  std::vector<uint8_t> q8(2 * kQ8_0Bytes), q4(2 * kQ4_0Bytes);
  q8[1] = 0x3c;               // d = 1
  q8[2] = 0x80;               // -128
  q8[33] = 0x7f;              // element 31 is 127
  q8[kQ8_0Bytes + 1] = 0xc0;  // d = -2
  q8[kQ8_0Bytes + 2] = 3;
  const auto from8 = decode(decode_q8_0, q8, 64);
  CHECK_EQ(from8[0], -128.0f);
  CHECK_EQ(from8[31], 127.0f);
  CHECK_EQ(from8[32], -6.0f);
  CHECK_EQ(from8[1], 0.0f);

  q4[1] = 0x3c;
  q4[2] = 0xf0;                // element 0 is -8, element 16 is 7
  q4[kQ4_0Bytes] = 0x01;       // d = 2^-24, the smallest half
  q4[kQ4_0Bytes + 17] = 0x9a;  // elements 15 and 31 of the second block
  const auto from4 = decode(decode_q4_0, q4, 64);
  CHECK_EQ(from4[0], -8.0f);
  CHECK_EQ(from4[16], 7.0f);
  CHECK_EQ(from4[32 + 15], 0x1p-23f);
  CHECK_EQ(from4[32 + 31], 0x1p-24f);
}

TEST("Q8_0 blocks are those of the gguf package, byte for byte") {
  const test::GoldenFile golden("gguf/blocks.safetensors");
  const std::vector<float> values = golden.values<float>("q8_0.input");
  const std::vector<uint8_t> expected = golden.values<uint8_t>("q8_0.bytes");
  std::vector<uint8_t> blocks(values.size() / kGgmlBlock * kQ8_0Bytes);
  encode_q8_0(values.data(), static_cast<int64_t>(values.size()), blocks.data());
  REQUIRE(blocks.size() == expected.size());
  for (size_t i = 0; i < blocks.size(); ++i) CHECK_EQ(static_cast<int>(blocks[i]), static_cast<int>(expected[i]));
}
