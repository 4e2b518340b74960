// Products with a Kronecker product as their definition reads, element by element.
#include <algorithm>

#include "backends/cpu/reference.h"
#include "core/factors.h"

namespace lowrank::cpu {
namespace {

/// D [k, q] as one matrix.
void make_d(const KroneckerPair& pair, float* whole) {
  const KroneckerShape& s = pair.shape;
  const float *d = host(pair.d), *d2 = host(pair.d2);
  for (int64_t j = 0; j < s.k; ++j)
    for (int64_t b = 0; b < s.q; ++b) {
      float sum = s.r > 0 ? 0 : d[j * s.q + b];
      for (int64_t i = 0; i < s.r; ++i) sum += d[j * s.r + i] * d2[i * s.q + b];
      whole[j * s.q + b] = sum;
    }
}

}  // namespace

void reference(const Cpu& cpu, const Kronecker& k) {
  const KroneckerShape& s = k.pair.shape;
  const float *c = host(k.pair.c), *gains = host(k.gains), *residual = host(k.residual);
  float* const d = reinterpret_cast<float*>(cpu.room);
  make_d(k.pair, d);
  for (int64_t t = 0; t < k.tokens; ++t)
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t j = 0; j < s.k; ++j) {
        const int64_t o = i * s.k + j;
        float sum = 0;
        for (int64_t a = 0; a < s.p; ++a)
          for (int64_t b = 0; b < s.q; ++b) sum += c[i * s.p + a] * d[j * s.q + b] * get(k.x, t, a * s.q + b);
        const float base = residual == nullptr ? 0 : residual[t * s.out() + o];
        host(k.out)[t * s.out() + o] = base + k.scale * (gains == nullptr ? 1 : gains[o]) * sum;
      }
}

void reference(const Cpu& cpu, const KroneckerBackward& k) {
  const KroneckerShape& s = k.pair.shape;
  const float *c = host(k.pair.c), *gains = host(k.gains);
  float *dc = host(k.dc), *dx = host(k.dx);
  float* const d = reinterpret_cast<float*>(cpu.room);
  float* const at_d = d + s.k * s.q;  // the gradient there
  make_d(k.pair, d);
  std::fill(at_d, at_d + s.k * s.q, 0.0f);
  if (dx != nullptr && !k.adds_dx) std::fill(dx, dx + k.tokens * s.in(), 0.0f);
  for (int64_t t = 0; t < k.tokens; ++t)
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t j = 0; j < s.k; ++j) {
        const int64_t o = i * s.k + j;
        const float g = k.scale * (gains == nullptr ? 1 : gains[o]) * get(k.dy, t, o);
        for (int64_t a = 0; a < s.p; ++a)
          for (int64_t b = 0; b < s.q; ++b) {
            const float own = c[i * s.p + a], in = get(k.x, t, a * s.q + b);
            if (dc != nullptr) dc[i * s.p + a] += g * d[j * s.q + b] * in;
            at_d[j * s.q + b] += g * own * in;
            if (dx != nullptr) dx[t * s.in() + a * s.q + b] += g * own * d[j * s.q + b];
          }
      }
  const float *first = host(k.pair.d), *second = host(k.pair.d2);
  float *dd = host(k.dd), *dd2 = host(k.dd2);
  for (int64_t j = 0; j < s.k; ++j)
    for (int64_t b = 0; b < s.q; ++b) {
      const float g = at_d[j * s.q + b];
      if (s.r == 0 && dd != nullptr) dd[j * s.q + b] += g;
      for (int64_t i = 0; i < s.r; ++i) {
        if (dd != nullptr) dd[j * s.r + i] += g * second[i * s.q + b];
        if (dd2 != nullptr) dd2[i * s.q + b] += g * first[j * s.r + i];
      }
    }
}

void reference(const Cpu&, const KroneckerC& k) { multiply_small(k.l, k.rank, k.p, host(k.a), host(k.b), host(k.c)); }

void reference(const Cpu&, const SpreadKroneckerC& k) {
  const float *a = host(k.a), *b = host(k.b), *g = host(k.g);
  float *da = host(k.da), *db = host(k.db);
  for (int64_t i = 0; i < k.l; ++i)
    for (int64_t j = 0; j < k.rank; ++j)
      for (int64_t c = 0; c < k.p; ++c) {
        if (da) da[i * k.rank + j] += g[i * k.p + c] * b[j * k.p + c];
        if (db) db[j * k.p + c] += g[i * k.p + c] * a[i * k.rank + j];
      }
}

}  // namespace lowrank::cpu
