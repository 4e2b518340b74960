#include "optim/chacha20.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "core/math.h"

namespace lowrank {
namespace {

uint32_t word(const uint8_t* bytes) {
  return uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

void quarter_round(std::array<uint32_t, 16>& s, int a, int b, int c, int d) {
  s[a] += s[b];
  s[d] = std::rotl(s[d] ^ s[a], 16);
  s[c] += s[d];
  s[b] = std::rotl(s[b] ^ s[c], 12);
  s[a] += s[b];
  s[d] = std::rotl(s[d] ^ s[a], 8);
  s[c] += s[d];
  s[b] = std::rotl(s[b] ^ s[c], 7);
}

/// In (0, 1), from 53 bits.
double uniform(uint32_t low, uint32_t high) {
  const uint64_t bits = (uint64_t{high} << 32 | low) >> 11;
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

}  // namespace

ChaCha20::ChaCha20(const Key& key, const Nonce& nonce) : state_{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574} {
  for (int i = 0; i < 8; ++i) state_[4 + i] = word(key.data() + 4 * i);
  for (int i = 0; i < 3; ++i) state_[13 + i] = word(nonce.data() + 4 * i);
}

std::array<uint32_t, 16> ChaCha20::block(uint32_t counter) const {
  std::array<uint32_t, 16> start = state_;
  start[12] = counter;
  std::array<uint32_t, 16> s = start;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) quarter_round(s, i, 4 + i, 8 + i, 12 + i);
    for (int i = 0; i < 4; ++i) quarter_round(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
  }
  for (int i = 0; i < 16; ++i) s[i] += start[i];
  return s;
}

std::array<double, 8> normals(const ChaCha20& stream, uint32_t counter) {
  const std::array<uint32_t, 16> words = stream.block(counter);
  std::array<double, 8> out;
  for (int i = 0; i < 4; ++i) {
    const double radius = std::sqrt(-2 * math::log(uniform(words[4 * i], words[4 * i + 1])));
    const auto [sine, cosine] = math::sin_cos(2 * std::numbers::pi * uniform(words[4 * i + 2], words[4 * i + 3]));
    out[2 * i] = radius * cosine;
    out[2 * i + 1] = radius * sine;
  }
  return out;
}

}  // namespace lowrank
