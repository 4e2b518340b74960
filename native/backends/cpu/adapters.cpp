#include "backends/cpu/adapters.h"

#include "backends/cpu/device.h"
#include "backends/cpu/ops_common.h"

namespace lowrank::cpu {

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

}  // namespace lowrank::cpu
