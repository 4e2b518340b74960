// What training leaves behind on CUDA, held to what it does on the CPU.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backends/cpu/device.h"
#include "runtime/ways.h"

namespace lowrank::test {

/// The numbers of a piece; bytes of a file are fp32.
inline std::vector<double> numbers_of(const Piece& piece) {
  if (!piece.bytes) return piece.numbers;
  std::vector<uint8_t> bytes;
  for (const double byte : piece.numbers) bytes.push_back(static_cast<uint8_t>(byte));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return {values.begin(), values.end()};
}

/// Norm of the difference by that of what is expected.
inline double apart(const Piece& found, const Piece& expected) {
  const std::vector<double> a = numbers_of(found), e = numbers_of(expected);
  if (a.size() != e.size()) return 1e30;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    difference += (a[i] - e[i]) * (a[i] - e[i]);
    norm += e[i] * e[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

/// What training leaves behind by the CPU's reference kernels.
inline std::vector<Piece> results_on_cpu(Pool& pool, const Way& way) {
  cpu::CpuDevice device(pool, cpu::kernels(cpu::Level::reference), cpu::CpuSizes(1));
  Context context{pool, device};
  return results(context, pool, way);
}

inline void check_near(const std::vector<Piece>& found, const std::vector<Piece>& expected, const Way& way) {
  // Seen: 3.0e-2, where a norm follows attention and MLP and makes their rounding larger.
  const double allowed = way.precision == Precision::bf16 ? 3.5e-2 : 1e-4;
  CHECK_EQ(found.size(), expected.size());
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    const Scope scope(expected[i].name);
    // Moments and codes of state round where values are hardly apart; the next step's values tell of them.
    const bool state = expected[i].bytes && expected[i].name.find("file of") != 0;
    if (!state) CHECK_LE(apart(found[i], expected[i]), allowed);
  }
}

}  // namespace lowrank::test
