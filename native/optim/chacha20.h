// The ChaCha20 stream cipher as a source of random numbers that nobody without the key can tell from noise: what
// privacy rests on must not come from a generator whose next numbers follow from those that were seen.
#pragma once

#include <array>
#include <cstdint>

namespace lowrank {

class ChaCha20 {
 public:
  using Key = std::array<uint8_t, 32>;
  using Nonce = std::array<uint8_t, 12>;

  ChaCha20(const Key& key, const Nonce& nonce);

  /// Words 16 counter .. 16 counter + 15 of the stream (RFC 8439, 2.3), little-endian in the stream's bytes.
  std::array<uint32_t, 16> block(uint32_t counter) const;

 private:
  std::array<uint32_t, 16> state_;
};

/// Normal deviates 8 counter .. 8 counter + 7 of a stream, mean 0 and deviation 1, in double precision: Box-Muller on
/// uniforms of 53 bits.
std::array<double, 8> normals(const ChaCha20& stream, uint32_t counter);

}  // namespace lowrank
