// The ChaCha20 stream cipher as a cryptographically secure random number generator: privacy must not rest on a
// generator whose future output can be predicted from its past.
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

/// Standard normal samples 8 counter .. 8 counter + 7 of a stream, in double precision: Box-Muller on 53-bit
/// uniforms.
std::array<double, 8> normals(const ChaCha20& stream, uint32_t counter);

}  // namespace lowrank
