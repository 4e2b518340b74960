#include "adapters/embedding.h"

namespace lowrank {

void gather_columns(Pool& pool, int64_t tokens, const int32_t* ids, int64_t ranks, int64_t vocab, const float* a,
                    float* h) {
  pool.for_range(tokens, 256, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t j = 0; j < ranks; ++j) h[t * ranks + j] = a[j * vocab + ids[t]];
  });
}

void scatter_columns(Pool& pool, int64_t tokens, const int32_t* ids, int64_t first, int64_t ranks, int64_t vocab,
                     const float* dh, float* da) {
  pool.for_range(ranks - first, 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = first + begin; j < first + end; ++j)
      for (int64_t t = 0; t < tokens; ++t) da[j * vocab + ids[t]] += dh[t * ranks + j];
  });
}

}  // namespace lowrank
