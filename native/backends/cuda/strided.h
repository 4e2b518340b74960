// Products of strided matrices; see product.h.
#pragma once

#include "backends/cuda/parts.h"
#include "backends/cuda/product.h"
#include "kernels/operands.h"

namespace lowrank::cuda {

inline Strided strided(Ptr<std::byte> data, DType dtype) {
  return {device_pointer(data), dtype == DType::bf16, 0, 0, 1, 0, 0, 0, 0};
}
inline Strided strided(const Matrix& m) { return strided(m.data, m.dtype); }
inline Strided strided(Ptr<float> data) { return strided(data.as<std::byte>(), DType::f32); }

/// Launches a product whose blocks add the whole reduction.
void multiply(Launcher& launcher, StridedProductArgs args);

/// Stretches of a reduction of `terms` terms into a result of `elements` elements: from shapes alone, so that the order
/// of sums does not depend on a card.
int64_t stretches_of(int64_t terms, int64_t elements);
/// Bytes of the sums of all stretches, for any number of terms up to this one.
int64_t stretches_bytes(int64_t terms, int64_t elements);
/// to [batches, m, n] += the product, in stretches whose sums lie in the workspace until they are added.
void add_product(Launcher& launcher, StridedProductArgs args, Ptr<float> to, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
