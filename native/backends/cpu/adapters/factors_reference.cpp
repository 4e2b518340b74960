#include "core/factors.h"

#include <algorithm>

#include "backends/cpu/ops_common.h"
#include "backends/cpu/table.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const Fold& k) {
  const ScaledB factors = scaled_b(k);
  cpu.pool.for_range(k.rows, std::max<int64_t>(1, 32768 / k.active),
                     [&](int64_t begin, int64_t end) { fold_rows(factors, begin, end, host(k.out)); });
}

void reference(const Cpu&, const FoldGradient& k) {
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
int64_t workspace(const FoldGradient&, int) { return 0; }

void reference(const Cpu& cpu, const FoldSnapshot& k) {
  const SnapshotB factors{k.rank, k.own, k.taken, host(k.b), host(k.star), host(k.row_gains)};
  cpu.pool.for_range(k.rows, std::max<int64_t>(1, 16384 / k.rank),
                     [&](int64_t begin, int64_t end) { fold_snapshot_rows(factors, begin, end, host(k.out)); });
}

void reference(const Cpu& cpu, const BuildPairA& k) {
  const Pair& pair = k.pair;
  cpu.pool.for_range(pair.rank * pair.rank2, std::max<int64_t>(1, 32768 / pair.cols), [&](int64_t begin, int64_t end) {
    pair_a_rows(host(pair.a), host(pair.a2), pair.rank2, pair.cols, begin, end, host(k.out));
  });
}

void reference(const Cpu& cpu, const FoldPair& k) {
  const PairB factors{k.pair.rank, k.pair.rank2, k.scale, k.weight, host(k.pair.b), host(k.pair.b2), host(k.row_gains)};
  cpu.pool.for_range(k.pair.rows, std::max<int64_t>(1, 32768 / (k.pair.rank * k.pair.rank2)),
                     [&](int64_t begin, int64_t end) { fold_pair_rows(factors, begin, end, host(k.out)); });
}

void reference(const Cpu& cpu, const SpreadPairA& k) {
  const int64_t first = k.pair.rank, second = k.pair.rank2, in = k.pair.cols;
  float *da = host(k.da), *da2 = host(k.da2);
  cpu.pool.for_range(in, 64, [&](int64_t begin, int64_t end) {
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

void reference(const Cpu& cpu, const SpreadPairB& k) {
  const int64_t first = k.pair.rank, second = k.pair.rank2, rank = first * second;
  const float* const row_gains = host(k.row_gains);
  float *db = host(k.db), *db2 = host(k.db2);
  cpu.pool.for_range(k.pair.rows, std::max<int64_t>(1, 16384 / rank), [&](int64_t begin, int64_t end) {
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

}  // namespace lowrank::cpu
