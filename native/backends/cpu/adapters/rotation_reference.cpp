// Rotations of blocks as their definition reads, element by element.
#include <algorithm>
#include <vector>

#include "backends/cpu/reference.h"

namespace lowrank::cpu {
namespace {

/// out += a b, both [n, n].
void add_product(int64_t n, const std::vector<double>& a, const std::vector<double>& b, std::vector<double>& out) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < n; ++j) out[i * n + j] += a[i * n + k] * b[k * n + j];
}

/// Bytes of rows of one block, and of matrices.
int64_t rows_bytes(const Blocks& shape) { return 4 * whole_lines(kRowChunk * shape.size); }
int64_t matrices_bytes(const Blocks& shape, int64_t count) { return 4 * whole_lines(count * shape.elements()); }

}  // namespace

void reference(const Cpu&, const CayleyNeumann& k) {
  const int64_t n = k.shape.size;
  for (int64_t block = 0; block < k.shape.blocks; ++block) {
    std::vector<double> d =
        cayley_neumann(n, k.terms, k.inverse ? -1.0f : 1.0f, host(k.skew) + block * k.shape.skew_elements());
    for (int64_t i = 0; k.whole && i < n; ++i) d[i * n + i] += 1;
    std::copy(d.begin(), d.end(), host(k.out) + block * k.shape.elements());
  }
}
int64_t workspace(const CayleyNeumann& k, int threads) { return threads * 3 * matrices_bytes(k.shape, 1); }

/// The gradient at Q of c Q^i is c times the sum over j < i of (Q^T)^j g (Q^T)^(i - 1 - j).
void reference(const Cpu&, const CayleyNeumannBackward& k) {
  const int64_t n = k.shape.size;
  const int degree = cayley_degree(k.terms);
  for (int64_t block = 0; block < k.shape.blocks; ++block) {
    std::vector<std::vector<double>> powers(degree + 1, std::vector<double>(n * n));  // of Q^T
    std::vector<double> q(n * n), dq(n * n);
    const float* const g = host(k.g) + block * n * n;
    const std::vector<double> at(g, g + n * n);
    skew_symmetric(n, -1.0f, host(k.skew) + block * k.shape.skew_elements(), q.data());
    for (int64_t i = 0; i < n; ++i) powers[0][i * n + i] = 1;
    for (int i = 1; i <= degree; ++i) add_product(n, powers[i - 1], q, powers[i]);
    for (int i = 1; i <= degree; ++i)
      for (int j = 0; j < i; ++j) {
        std::vector<double> left(n * n), whole(n * n);
        add_product(n, powers[j], at, left);
        add_product(n, left, powers[i - 1 - j], whole);
        for (int64_t e = 0; e < n * n; ++e) dq[e] += cayley_factor(i, k.terms) * whole[e];
      }
    float* to = host(k.dskew) + block * k.shape.skew_elements();
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) *to++ += static_cast<float>(dq[i * n + j] - dq[j * n + i]);
  }
}
int64_t workspace(const CayleyNeumannBackward& k, int threads) {
  return threads * (4 * matrices_bytes(k.shape, 1) + matrices_bytes(k.shape, cayley_degree(k.terms)));
}

void reference(const Cpu&, const Rotate& k) {
  const int64_t n = k.shape.size;
  for (int64_t t = 0; t < k.tokens; ++t)
    for (int64_t c = 0; c < k.cols; ++c) {
      const int64_t block = c / n;
      const float* const d = host(k.d) + (k.shape.blocks == 1 ? 0 : block) * n * n;
      float sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += get(k.x, t, block * n + i) * d[i * n + c % n];
      const float base = k.addend.data ? get(k.addend, t, c) : 0;
      set(k.out, t, c, base + k.weight * sum);
    }
}
int64_t workspace(const Rotate& k, int threads) { return threads * 2 * rows_bytes(k.shape); }

void reference(const Cpu& cpu, const RotateBySeries& k) {
  std::vector<float> d(k.shape.blocks * k.shape.elements());
  reference(cpu, CayleyNeumann{k.shape, k.terms, false, false, k.skew, address_of(d.data())});
  reference(cpu, Rotate{k.tokens, k.cols, k.shape, k.x, address_of(d.data()), k.weight, k.addend, k.out});
}
int64_t workspace(const RotateBySeries& k, int threads) {
  return threads * (3 * rows_bytes(k.shape) + matrices_bytes(k.shape, 1));
}

void reference(const Cpu&, const RotationGradient& k) {
  const int64_t n = k.shape.size;
  for (int64_t block = 0; block < k.cols / n; ++block) {
    float* const g = host(k.g) + (k.shape.blocks == 1 ? 0 : block) * n * n;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < n; ++c) {
        float sum = 0;
        for (int64_t t = 0; t < k.tokens; ++t) sum += get(k.x, t, block * n + i) * get(k.dy, t, block * n + c);
        g[i * n + c] += sum;
      }
  }
}
int64_t workspace(const RotationGradient& k, int threads) { return threads * 2 * rows_bytes(k.shape); }

}  // namespace lowrank::cpu
