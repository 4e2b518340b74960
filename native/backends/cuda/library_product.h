// A product that a library may serve.
#pragma once

#include <cstdint>

#include "kernels/operands.h"

namespace lowrank::cuda {

/// How the factors of a product lie: nt, x [m, k] and w [n, k]; nn, x [m, k] and w [k, n]; tn, x [k, m] and w [k, n].
enum class GemmLayout : uint8_t { nt, nn, tn };

/// y [m, n] = scale x w (+ addend), sums in fp32. Both factors are bf16, y bf16 or fp32, or all are fp32; the addend is
/// of y's type, and may be y. Rows begin at multiples of 16 bytes.
struct LibraryProduct {
  GemmLayout layout;
  int64_t m, n, k;
  Matrix x, w, y;
  float scale;
  Matrix addend;
};

/// Room that a library may use for a product; more helps only the newer cards.
constexpr int64_t library_workspace(int sm) { return int64_t{sm < 90 ? 4 : 32} << 20; }

}  // namespace lowrank::cuda
