// Computed factors of a matrix, for adapters initialized from the weight: its largest singular values with their
// vectors, and the first columns of its QR factorization. All sums are in double precision and in a fixed order, so the
// same seed gives the same factors on every machine, with any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/boundary.h"
#include "core/pool.h"

namespace lowrank {

struct SingularOptions {
  int64_t rank = 1;
  /// Number of blocks of `rank` vectors multiplied by the matrix and its transpose; 0: until the vectors of every
  /// singular value have converged to within 1e-6 of the largest value.
  int64_t blocks = 0;
  uint64_t seed = 0;  // with the name, determines the initial vectors
  std::string name;
};

/// The largest singular values of w [rows, cols], W ~ U S V^T, as A = S^1/2 V^T and B = U S^1/2, by block Lanczos
/// bidiagonalization with full reorthogonalization, restarted with the best vectors found so far (Baglama and Reichel
/// 2005). Throws Error("SHAPE") for a rank that exceeds a dimension of the matrix.
Decomposition largest_singular(Pool& pool, const float* w, int64_t rows, int64_t cols, const SingularOptions& options);

/// Q and R of W = Q R truncated to `rank`: B has orthonormal columns that span the first columns of W, and A = B^T W.
/// Throws as largest_singular.
Decomposition first_of_qr(Pool& pool, const float* w, int64_t rows, int64_t cols, int64_t rank);

}  // namespace lowrank
