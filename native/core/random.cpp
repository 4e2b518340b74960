#include "core/random.h"

namespace lowrank {

uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double draw(uint64_t key, uint64_t index) {
  const uint64_t bits = mix(key + (index + 1) * 0x9e3779b97f4a7c15u) >> 11;  // 53 of them
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

uint32_t counter_hash(uint64_t key, uint64_t index) {
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(mix(mix(key + kStep) + (index >> 1) * kStep) >> ((index & 1) * 32));
}

}  // namespace lowrank
