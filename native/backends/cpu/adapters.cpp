#include "backends/cpu/adapters.h"

#include <algorithm>
#include <vector>

#include "backends/cpu/device.h"
#include "backends/cpu/ops_common.h"
#include "core/factors.h"
#include "core/random.h"

namespace lowrank::cpu {

void fold(Pool& pool, const Fold& k) {
  const ScaledB factors{k.rank,    k.active,     k.scale,        k.weight,         host(k.b),
                        host(k.d), host(k.mask), host(k.b_gain), host(k.row_gains)};
  pool.for_range(k.rows, std::max<int64_t>(1, 32768 / k.active),
                 [&](int64_t begin, int64_t end) { fold_rows(factors, begin, end, host(k.out)); });
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

void fold_snapshot(Pool& pool, const FoldSnapshot& k) {
  const SnapshotB factors{k.rank, k.own, k.taken, host(k.b), host(k.star), host(k.row_gains)};
  pool.for_range(k.rows, std::max<int64_t>(1, 16384 / k.rank),
                 [&](int64_t begin, int64_t end) { fold_snapshot_rows(factors, begin, end, host(k.out)); });
}

void build_pair_a(Pool& pool, const BuildPairA& k) {
  const Pair& pair = k.pair;
  pool.for_range(pair.rank * pair.rank2, std::max<int64_t>(1, 32768 / pair.cols), [&](int64_t begin, int64_t end) {
    pair_a_rows(host(pair.a), host(pair.a2), pair.rank2, pair.cols, begin, end, host(k.out));
  });
}

void fold_pair(Pool& pool, const FoldPair& k) {
  const PairB factors{k.pair.rank, k.pair.rank2, k.scale, k.weight, host(k.pair.b), host(k.pair.b2), host(k.row_gains)};
  pool.for_range(k.pair.rows, std::max<int64_t>(1, 32768 / (k.pair.rank * k.pair.rank2)),
                 [&](int64_t begin, int64_t end) { fold_pair_rows(factors, begin, end, host(k.out)); });
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
  // Keys of other linears are a few draws apart; mixing them keeps their sequences from overlapping.
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

void gather_columns(Pool& pool, const GatherColumns& k) {
  const int32_t* const ids = host(k.ids);
  const float* const a = host(k.a);
  float* const h = host(k.h);
  pool.for_range(k.tokens, 256, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t j = 0; j < k.ranks; ++j) h[t * k.ranks + j] = a[j * k.vocab + ids[t]];
  });
}

/// In the order of the tokens, whatever the number of threads.
void scatter_columns(Pool& pool, const ScatterColumns& k) {
  const int32_t* const ids = host(k.ids);
  const float* const dh = host(k.dh);
  float* const da = host(k.da);
  pool.for_range(k.ranks - k.first, 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = k.first + begin; j < k.first + end; ++j)
      for (int64_t t = 0; t < k.tokens; ++t) da[j * k.vocab + ids[t]] += dh[t * k.ranks + j];
  });
}

void second_moment(Pool& pool, const SecondMoment& k) {
  double* const moment = host(k.moment);
  pool.for_range(k.rank, 4, [&](int64_t begin, int64_t end) {
    std::vector<double> row(k.rank);
    for (int64_t t = 0; t < k.tokens; ++t) {
      const std::byte* const h = host(k.h.rows(t).data);
      for (int64_t j = 0; j < k.rank; ++j) row[j] = load_element(h, k.h.dtype, j);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < k.rank; ++j) moment[i * k.rank + j] += row[i] * row[j];
    }
  });
}

}  // namespace lowrank::cpu
