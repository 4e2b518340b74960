// Rotations of blocks of columns, made from skew-symmetric matrices by the Cayley-Neumann series.
#pragma once

#include <cstdint>

#include "core/cayley_neumann.h"

namespace lowrank::cpu {

using lowrank::Blocks;

/// Tokens that are rotated at a time.
inline constexpr int64_t kRotatedTokens = 64;

/// Bytes of workspace (64-byte aligned): matrices of powers, and tokens of one block in fp32.
int64_t cayley_workspace(const Blocks& shape, int terms, int threads);
int64_t rotation_workspace(const Blocks& shape, int threads);
int64_t series_workspace(const Blocks& shape, int threads);

}  // namespace lowrank::cpu
