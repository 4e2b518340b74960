#include "backends/cpu/adapters.h"

#include <algorithm>

#include "backends/cpu/device.h"
#include "core/random.h"

namespace lowrank::cpu {

void fold(const Fold& k, int64_t begin, int64_t end) {
  const float *b = host(k.b), *d = host(k.d), *mask = host(k.mask), *gain = host(k.b_gain),
              *row_gains = host(k.row_gains);
  float* const out = host(k.out);
  for (int64_t i = begin; i < end; ++i) {
    const float row = k.weight * (gain ? k.scale * gain[i] : k.scale) * (row_gains ? row_gains[i] : 1);
    for (int64_t j = 0; j < k.active; ++j) {
      float factor = row;
      if (d) factor *= d[j];
      if (mask) factor *= mask[j];
      out[i * k.active + j] = factor * b[i * k.rank + j];
    }
  }
}

void fold(Pool& pool, const Fold& k) {
  pool.for_range(k.rows, std::max<int64_t>(1, 32768 / k.active),
                 [&](int64_t begin, int64_t end) { fold(k, begin, end); });
}

void fold_gradient(const FoldGradient& k) {
  const float *b = host(k.b), *d = host(k.d), *mask = host(k.mask), *gain = host(k.b_gain), *g = host(k.g);
  float *db = host(k.db), *dd = host(k.dd), *dgain = host(k.dgain);
  for (int64_t i = 0; i < k.rows; ++i) {
    const float row_gain = gain ? gain[i] : 1;
    float to_gain = 0;
    for (int64_t j = 0; j < k.active; ++j) {
      const float dj = d ? d[j] : 1;
      const float masked = k.scale * (mask ? mask[j] : 1) * g[i * k.active + j];
      const float bij = b[i * k.rank + j];
      if (db) db[i * k.rank + j] += masked * row_gain * dj;
      if (dd) dd[j] += masked * row_gain * bij;
      to_gain += masked * dj * bij;
    }
    if (dgain) dgain[i] += to_gain;
  }
}

void fold_snapshot(const FoldSnapshot& k, int64_t begin, int64_t end) {
  const float *b = host(k.b), *star = host(k.star), *row_gains = host(k.row_gains);
  float* const out = host(k.out);
  for (int64_t i = begin; i < end; ++i) {
    float* const to = out + 2 * i * k.rank;
    const float gain = row_gains ? row_gains[i] : 1;
    for (int64_t j = 0; j < k.rank; ++j) {
      to[j] = gain * k.own * b[i * k.rank + j];
      to[k.rank + j] = gain * k.taken * star[i * k.rank + j];
    }
  }
}

void fold_snapshot(Pool& pool, const FoldSnapshot& k) {
  pool.for_range(k.rows, std::max<int64_t>(1, 16384 / k.rank),
                 [&](int64_t begin, int64_t end) { fold_snapshot(k, begin, end); });
}

void build_pair_a(const BuildPairA& k, int64_t begin, int64_t end) {
  const int64_t in = k.pair.cols, second = k.pair.rank2;
  float* const out = host(k.out);
  for (int64_t row = begin; row < end; ++row) {
    const float* a = host(k.pair.a) + row / second * in;
    const float* a2 = host(k.pair.a2) + row % second * in;
    float* __restrict to = out + row * in;
    for (int64_t c = 0; c < in; ++c) to[c] = a[c] * a2[c];
  }
}

void build_pair_a(Pool& pool, const BuildPairA& k) {
  pool.for_range(k.pair.rank * k.pair.rank2, std::max<int64_t>(1, 32768 / k.pair.cols),
                 [&](int64_t begin, int64_t end) { build_pair_a(k, begin, end); });
}

void fold_pair(const FoldPair& k, int64_t begin, int64_t end) {
  const int64_t first = k.pair.rank, second = k.pair.rank2, rank = first * second;
  const float* const row_gains = host(k.row_gains);
  for (int64_t o = begin; o < end; ++o) {
    const float* b = host(k.pair.b) + o * first;
    const float* b2 = host(k.pair.b2) + o * second;
    const float row = k.weight * k.scale * (row_gains ? row_gains[o] : 1);
    float* __restrict to = host(k.out) + o * rank;
    for (int64_t i = 0; i < first; ++i) {
      const float factor = row * b[i];
      for (int64_t j = 0; j < second; ++j) to[i * second + j] = factor * b2[j];
    }
  }
}

void fold_pair(Pool& pool, const FoldPair& k) {
  pool.for_range(k.pair.rows, std::max<int64_t>(1, 32768 / (k.pair.rank * k.pair.rank2)),
                 [&](int64_t begin, int64_t end) { fold_pair(k, begin, end); });
}

void spread_pair_a(Pool& pool, const SpreadPairA& k) {
  const int64_t first = k.pair.rank, second = k.pair.rank2, in = k.pair.cols;
  float *da = host(k.da), *da2 = host(k.da2);
  pool.for_range(in, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < first; ++i)
      for (int64_t j = 0; j < second; ++j) {
        const float* row = host(k.g) + (i * second + j) * in;
        const float* a = host(k.pair.a) + i * in;
        const float* a2 = host(k.pair.a2) + j * in;
        if (float* __restrict to = da ? da + i * in : nullptr)
          for (int64_t c = begin; c < end; ++c) to[c] += row[c] * a2[c];
        if (float* __restrict to = da2 ? da2 + j * in : nullptr)
          for (int64_t c = begin; c < end; ++c) to[c] += row[c] * a[c];
      }
  });
}

void spread_pair_b(Pool& pool, const SpreadPairB& k) {
  const int64_t first = k.pair.rank, second = k.pair.rank2, rank = first * second;
  const float* const row_gains = host(k.row_gains);
  float *db = host(k.db), *db2 = host(k.db2);
  pool.for_range(k.pair.rows, std::max<int64_t>(1, 16384 / rank), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float gain = k.scale * (row_gains ? row_gains[o] : 1);
      const float* b = host(k.pair.b) + o * first;
      const float* b2 = host(k.pair.b2) + o * second;
      for (int64_t i = 0; i < first; ++i) {
        const float* row = host(k.g) + o * rank + i * second;
        if (float* __restrict to = db2 ? db2 + o * second : nullptr) {
          const float factor = gain * b[i];
          for (int64_t j = 0; j < second; ++j) to[j] += factor * row[j];
        }
        if (!db) continue;
        float sums[4] = {};  // four at a time: one sum waits for itself
        for (int64_t j = 0; j < second; ++j) sums[j % 4] += row[j] * b2[j];
        db[o * first + i] += gain * (sums[0] + sums[1] + sums[2] + sums[3]);
      }
    }
  });
}

void draw_rows(const DrawRows& k) {
  float* const gains = host(k.gains);
  // Keys of other linears differ by a few multiples of what the draws are apart; mixed, the draws share no run.
  const uint64_t key = mix(k.key);
  // Index 0 decides about the whole, index 1 + row about a row.
  if (k.drop_all > 0 && draw(key, 0) < k.drop_all) {
    std::fill(gains, gains + k.rows, 0.0f);
    return;
  }
  int64_t kept = 0;
  for (int64_t row = 0; row < k.rows; ++row) {
    const bool keep = k.drop_row == 0 || draw(key, static_cast<uint64_t>(row) + 1) >= k.drop_row;
    gains[row] = keep ? 1.0f : 0.0f;
    kept += keep;
  }
  if (!k.rescale || kept == 0) return;
  const float share = static_cast<float>(kept) / static_cast<float>(k.rows);
  for (int64_t row = 0; row < k.rows; ++row) gains[row] /= share;
}

void kronecker_c(const KroneckerC& k) {
  const float *a = host(k.a), *b = host(k.b);
  float* const out = host(k.c);
  for (int64_t i = 0; i < k.l; ++i)
    for (int64_t c = 0; c < k.p; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < k.rank; ++j) sum += double{a[i * k.rank + j]} * b[j * k.p + c];
      out[i * k.p + c] = static_cast<float>(sum);
    }
}

void spread_kronecker_c(const SpreadKroneckerC& k) {
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
