// Rotations of blocks as their definition has them, element by element.
#include "backends/cpu/rotation.h"

#include <algorithm>

#include "backends/cpu/ops_common.h"
#include "core/cayley_neumann.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kAlign = 16;  // floats of a cache line
constexpr int64_t round_up(int64_t floats) { return (floats + kAlign - 1) / kAlign * kAlign; }

float element(const Matrix& x, int64_t row, int64_t col) { return load_element(row_of(x, row), x.dtype, col); }

/// out += a b, both [n, n].
void add_product(int64_t n, const std::vector<double>& a, const std::vector<double>& b, std::vector<double>& out) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < n; ++j) out[i * n + j] += a[i * n + k] * b[k * n + j];
}

}  // namespace

int64_t cayley_workspace(const Blocks& shape, int terms, int threads) {
  const int64_t powers = cayley_degree(terms) * shape.elements();
  return threads * 4 * (4 * round_up(shape.elements()) + round_up(powers));
}

int64_t rotation_workspace(const Blocks& shape, int threads) {
  return threads * 4 * 2 * round_up(kRotatedTokens * shape.size);
}

int64_t series_workspace(const Blocks& shape, int threads) {
  return threads * 4 * (3 * round_up(kRotatedTokens * shape.size) + round_up(shape.elements()));
}

void cayley_neumann_reference(Pool&, const Blocks& shape, int terms, bool inverse, bool whole, const float* skew,
                              float* out, std::byte*) {
  for (int64_t block = 0; block < shape.blocks; ++block) {
    std::vector<double> d =
        cayley_neumann(shape.size, terms, inverse ? -1.0f : 1.0f, skew + block * shape.skew_elements());
    for (int64_t i = 0; whole && i < shape.size; ++i) d[i * shape.size + i] += 1;
    std::copy(d.begin(), d.end(), out + block * shape.elements());
  }
}

/// The gradient at Q of c Q^i is c times the sum over j < i of (Q^T)^j g (Q^T)^(i - 1 - j).
void cayley_neumann_backward_reference(Pool&, const Blocks& shape, int terms, const float* skew, const float* g,
                                       float* dskew, std::byte*) {
  const int64_t n = shape.size;
  const int degree = cayley_degree(terms);
  for (int64_t block = 0; block < shape.blocks; ++block) {
    std::vector<std::vector<double>> powers(degree + 1, std::vector<double>(n * n));  // of Q^T
    std::vector<double> q(n * n), dq(n * n);
    const std::vector<double> at(g + block * n * n, g + (block + 1) * n * n);
    skew_symmetric(n, -1.0f, skew + block * shape.skew_elements(), q.data());
    for (int64_t i = 0; i < n; ++i) powers[0][i * n + i] = 1;
    for (int i = 1; i <= degree; ++i) add_product(n, powers[i - 1], q, powers[i]);
    for (int i = 1; i <= degree; ++i)
      for (int j = 0; j < i; ++j) {
        std::vector<double> left(n * n), whole(n * n);
        add_product(n, powers[j], at, left);
        add_product(n, left, powers[i - 1 - j], whole);
        for (int64_t e = 0; e < n * n; ++e) dq[e] += cayley_factor(i, terms) * whole[e];
      }
    float* to = dskew + block * shape.skew_elements();
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) *to++ += static_cast<float>(dq[i * n + j] - dq[j * n + i]);
  }
}

void rotate_reference(Pool&, int64_t tokens, int64_t cols, const Blocks& shape, const Matrix& x, const float* d,
                      float weight, const Matrix& addend, const Matrix& out, std::byte*) {
  const int64_t n = shape.size;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < cols; ++c) {
      const int64_t block = c / n;
      const float* const own = d + (shape.blocks == 1 ? 0 : block) * n * n;
      float sum = 0;
      for (int64_t k = 0; k < n; ++k) sum += element(x, t, block * n + k) * own[k * n + c % n];
      const float base = addend.data == nullptr ? 0 : element(addend, t, c);
      store_element(row_of(out, t), out.dtype, c, base + weight * sum);
    }
}

void rotate_by_series_reference(Pool& pool, int64_t tokens, int64_t cols, const Blocks& shape, int terms,
                                const Matrix& x, const float* skew, float weight, const Matrix& addend,
                                const Matrix& out, std::byte* workspace) {
  std::vector<float> d(shape.blocks * shape.elements());
  cayley_neumann_reference(pool, shape, terms, false, false, skew, d.data(), workspace);
  rotate_reference(pool, tokens, cols, shape, x, d.data(), weight, addend, out, workspace);
}

void rotation_gradient_reference(Pool&, int64_t tokens, int64_t cols, const Blocks& shape, const Matrix& x,
                                 const Matrix& dy, float* g, std::byte*) {
  const int64_t n = shape.size;
  for (int64_t block = 0; block < cols / n; ++block)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t c = 0; c < n; ++c) {
        float sum = 0;
        for (int64_t t = 0; t < tokens; ++t) sum += element(x, t, block * n + k) * element(dy, t, block * n + c);
        g[((shape.blocks == 1 ? 0 : block) * n + k) * n + c] += sum;
      }
}

}  // namespace lowrank::cpu
