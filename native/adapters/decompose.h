// Factors of a matrix that are not drawn but computed, for adapters that start from the weight itself: its largest
// singular values with their vectors, and the first steps of its QR factorization. All sums are in double and in a fixed
// order, so that the same seed gives the same factors on every machine, at any number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/pool.h"

namespace lowrank {

/// A product B A that stands for a matrix.
struct Factors {
  std::vector<float> a;  // [rank, cols]
  std::vector<float> b;  // [rows, rank]
  double square = 0;     // sum of the squares of the matrix's elements
  double kept = 0;       // the same of B A
};

struct SingularOptions {
  int64_t rank = 1;
  /// Blocks of `rank` vectors that are multiplied by the matrix and its transpose; 0: as many as it takes until no
  /// singular value's vectors are further than 1e-6 of the largest value from being a pair.
  int64_t blocks = 0;
  uint64_t seed = 0;  // with the name, of the vectors it begins with
  std::string name;
};

/// The largest singular values of w [rows, cols], W ~ U S V^T, as A = S^1/2 V^T and B = U S^1/2, by block Lanczos
/// bidiagonalization with full reorthogonalization, restarted with the best vectors found so far (Baglama and Reichel
/// 2005). Throws Error("SHAPE") for a rank that a side of the matrix is smaller than.
Factors largest_singular(Pool& pool, const float* w, int64_t rows, int64_t cols, const SingularOptions& options);

/// Q and R of W = Q R cut to `rank`: B has orthonormal columns that span the first columns of W, and A = B^T W. Throws as
/// largest_singular.
Factors first_of_qr(Pool& pool, const float* w, int64_t rows, int64_t cols, int64_t rank);

}  // namespace lowrank
