// The properties of a GPU that launches and workspaces depend on.
#pragma once

#include <cstdint>

namespace lowrank::cuda {

/// The defaults are those of an A100, the oldest card that the kernels run on.
struct Card {
  int sm = 80;  // compute capability, ten times
  int multiprocessors = 108;
  int64_t shared_bytes = 163 * 1024;  // that a block may have
  /// That decoded weights may take while a product runs; larger weights are decoded and multiplied in slices.
  int64_t decoded_bytes = int64_t{128} << 20;
  /// Multiplications of the smallest product that a library serves, where there is one.
  int64_t library_least = int64_t{1} << 28;
  /// Least number of its rows, of its columns, and of terms in each sum.
  int64_t library_side = 128;
};

}  // namespace lowrank::cuda
