// The Cayley-Neumann series (Qiu et al. 2025, arXiv 2506.19847): approximates the orthogonal matrix (I + Q) (I - Q)^-1
// of a skew-symmetric Q without an inverse, as I + 2 Q + 2 Q^2 + … with factor 1 on the last power. Terms are counted
// as in PEFT, where 3 and 4 terms are the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lowrank {

/// A block-diagonal matrix: `blocks` blocks of [size, size], or a single shared one if `blocks` is 1.
struct Blocks {
  int64_t blocks = 0, size = 0;

  int64_t elements() const { return size * size; }                 // of a block
  int64_t skew_elements() const { return size * (size - 1) / 2; }  // above its diagonal
};

/// The highest power of Q in a series of `terms` terms.
inline int cayley_degree(int terms) { return terms < 3 ? std::max(terms - 1, 0) : std::max(terms - 1, 3); }
/// Coefficient of power `i`, counted from 1.
inline float cayley_factor(int i, int terms) { return i < cayley_degree(terms) || terms < 3 ? 2.0f : 1.0f; }

/// Q [size, size] times `sign`, from its upper triangle stored row by row.
template <class Real>
void skew_symmetric(int64_t size, float sign, const float* upper, Real* q) {
  for (int64_t i = 0; i < size; ++i) {
    q[i * size + i] = 0;
    for (int64_t j = i + 1; j < size; ++j) {
      const Real value = sign * *upper++;
      q[i * size + j] = value;
      q[j * size + i] = -value;
    }
  }
}

/// D [size, size], the sum of the powers of Q without I, in double precision. For -Q it is the transpose.
inline std::vector<double> cayley_neumann(int64_t size, int terms, float sign, const float* upper) {
  std::vector<double> q(size * size), sum(size * size), next(size * size);
  skew_symmetric(size, sign, upper, q.data());
  for (int i = cayley_degree(terms); i > 0; --i) {  // Horner's rule
    for (int64_t r = 0; r < size; ++r) sum[r * size + r] += cayley_factor(i, terms);
    std::fill(next.begin(), next.end(), 0);
    for (int64_t r = 0; r < size; ++r)
      for (int64_t k = 0; k < size; ++k)
        for (int64_t c = 0; c < size; ++c) next[r * size + c] += q[r * size + k] * sum[k * size + c];
    sum.swap(next);
  }
  return sum;
}

}  // namespace lowrank
