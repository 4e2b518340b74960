// Kernels of an optimizer's step in tests: the same bits at any number of threads, within the room that they promise.
#pragma once

#include <vector>

#include "core/random.h"
#include "ops_support.h"

namespace lowrank::test {

inline std::vector<float> numbers(int64_t count, uint64_t key) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(draw(key, i) - 0.5);
  return values;
}

/// Launches at the level that a run has.
inline void launch(int threads, const Kernel& kernel) {
  Pool pool(threads);
  run(cpu::default_level(), pool, kernel);
}

/// Result of a kernel on an array, which is the same with one thread and with three.
inline std::vector<float> made(const std::vector<float>& from, const auto& kernel_on) {
  std::vector<float> one = from, three = from;
  launch(1, kernel_on(cpu::address_of(one.data())));
  launch(3, kernel_on(cpu::address_of(three.data())));
  CHECK(one == three);
  return one;
}

}  // namespace lowrank::test
