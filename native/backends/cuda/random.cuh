// Draws by counter, bit for bit those of the CPU.
#pragma once

#include "device.cuh"

namespace lowrank::cuda {

inline constexpr uint64_t kDrawStep = 0x9e3779b97f4a7c15u;

/// splitmix64's finalizer.
LOWRANK_DEVICE uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// 32 bits for each of eight neighbors: two with one index / 2 share a hash.
LOWRANK_DEVICE void draw8(uint32_t (&bits)[8], uint64_t base, uint64_t index) {
  const bool odd = index & 1;
  uint64_t hash[5];
#pragma unroll
  for (uint64_t i = 0; i < 4; ++i) hash[i] = mix(base + ((index >> 1) + i) * kDrawStep);
  hash[4] = odd ? mix(base + ((index >> 1) + 4) * kDrawStep) : 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint64_t even_hash = hash[i / 2], odd_hash = hash[(i + 1) / 2];
    const uint64_t own = odd ? odd_hash : even_hash;
    bits[i] = static_cast<uint32_t>(((i & 1) != 0) != odd ? own >> 32 : own);
  }
}

/// A number in (0, 1).
LOWRANK_DEVICE double draw(uint64_t key, uint64_t index) {
  return (static_cast<double>(mix(key + (index + 1) * kDrawStep) >> 11) + 0.5) * 0x1p-53;
}

}  // namespace lowrank::cuda
