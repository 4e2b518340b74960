// Products with a Kronecker product as their definition has them, element by element.
#include <algorithm>

#include "backends/cpu/kronecker.h"
#include "backends/cpu/ops_common.h"

namespace lowrank::cpu {
namespace {

/// D [k, q] as one matrix.
void make_d(const KroneckerShape& s, const KroneckerFactors& f, float* d) {
  for (int64_t j = 0; j < s.k; ++j)
    for (int64_t b = 0; b < s.q; ++b) {
      float sum = s.r > 0 ? 0 : f.d[j * s.q + b];
      for (int64_t i = 0; i < s.r; ++i) sum += f.d[j * s.r + i] * f.d2[i * s.q + b];
      d[j * s.q + b] = sum;
    }
}

float element(const Matrix& x, int64_t row, int64_t col) { return load_element(row_of(x, row), x.dtype, col); }

}  // namespace

void kronecker_reference(Pool&, int64_t tokens, const KroneckerShape& s, const KroneckerFactors& f, float scale,
                         const float* gains, const Matrix& x, const float* residual, float* out, std::byte* workspace) {
  float* const d = reinterpret_cast<float*>(workspace);
  make_d(s, f, d);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t j = 0; j < s.k; ++j) {
        const int64_t o = i * s.k + j;
        float sum = 0;
        for (int64_t a = 0; a < s.p; ++a)
          for (int64_t b = 0; b < s.q; ++b) sum += f.c[i * s.p + a] * d[j * s.q + b] * element(x, t, a * s.q + b);
        const float base = residual == nullptr ? 0 : residual[t * s.out() + o];
        out[t * s.out() + o] = base + scale * (gains == nullptr ? 1 : gains[o]) * sum;
      }
}

void kronecker_backward_reference(Pool&, int64_t tokens, const KroneckerShape& s, const KroneckerFactors& f,
                                  float scale, const float* gains, const Matrix& x, const Matrix& dy,
                                  const KroneckerGradients& to, float* dx, bool adds_dx, std::byte* workspace) {
  float* const d = reinterpret_cast<float*>(workspace);
  float* const dd = d + s.k * s.q;
  make_d(s, f, d);
  std::fill(dd, dd + s.k * s.q, 0.0f);
  if (dx != nullptr && !adds_dx) std::fill(dx, dx + tokens * s.in(), 0.0f);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t j = 0; j < s.k; ++j) {
        const int64_t o = i * s.k + j;
        const float g = scale * (gains == nullptr ? 1 : gains[o]) * element(dy, t, o);
        for (int64_t a = 0; a < s.p; ++a)
          for (int64_t b = 0; b < s.q; ++b) {
            const float c = f.c[i * s.p + a], in = element(x, t, a * s.q + b);
            if (to.c != nullptr) to.c[i * s.p + a] += g * d[j * s.q + b] * in;
            dd[j * s.q + b] += g * c * in;
            if (dx != nullptr) dx[t * s.in() + a * s.q + b] += g * c * d[j * s.q + b];
          }
      }
  for (int64_t j = 0; j < s.k; ++j)
    for (int64_t b = 0; b < s.q; ++b) {
      const float g = dd[j * s.q + b];
      if (s.r == 0 && to.d != nullptr) to.d[j * s.q + b] += g;
      for (int64_t i = 0; i < s.r; ++i) {
        if (to.d != nullptr) to.d[j * s.r + i] += g * f.d2[i * s.q + b];
        if (to.d2 != nullptr) to.d2[i * s.q + b] += g * f.d[j * s.r + i];
      }
    }
}

}  // namespace lowrank::cpu
