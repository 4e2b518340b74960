// How levels share out products with Kronecker products. Whichever side takes fewer multiplications goes first.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kronecker.h"

namespace lowrank::cpu {

/// Partition of a product's tokens: `block` tokens at a time, and in the backward pass `chunks` runs of whole
/// blocks, each with sums of its own that are added in order. From shapes alone, so that bits do not depend on threads.
struct KroneckerWork {
  int64_t block = 0;
  int64_t chunks = 0;
  int64_t chunk_tokens = 0;
  int64_t shared = 0;      // floats: transposed factors
  int64_t per_thread = 0;  // floats
  int64_t per_chunk = 0;   // floats: gradients of c, d and d2
};
KroneckerWork kronecker_work(const KroneckerShape& shape, int64_t tokens);

/// The product on tiles of 16 rows by 32 bf16 values: sides rounded up to 32, and floats of room for that.
struct KroneckerTiles {
  int64_t l = 0, p = 0, k = 0, q = 0;
  int64_t shared = 0;      // the factors
  int64_t per_thread = 0;  // see TileRoom in kronecker_amx.inl

  int64_t largest() const { return std::max({p * k, l * k, p * q, k * q}); }
};
KroneckerTiles kronecker_tiles(const KroneckerShape& shape);
/// True if no side is so short that tiles are mostly padding, or so long that a token's matrices leave the caches.
bool fits_tiles(const KroneckerShape& shape);

}  // namespace lowrank::cpu
