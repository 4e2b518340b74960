#include "backends/cpu/reference.h"
#include "backends/cpu/rows/rows_by_id.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const DecodeRows& k) {
  const WeightView table = view(cpu, k.table);
  for_gathered(cpu, k, [&](int64_t first, int64_t last) {
    for_rows(cpu, last - first, table.cols, [&](int64_t row) {
      decode_row(table, host(k.ids)[first + row], 0, table.cols, row_as<float>(k.out, first + row));
    });
  });
}

void reference(const Cpu& cpu, const EmbeddingGradient& k) {
  with_rows(k.dy, [&](auto&& row_of) {
    for_columns(cpu, k.cols, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < k.tokens; ++t) {
        const auto gradient = row_of(t);
        float* const row = host(k.dtable) + int64_t{host(k.ids)[t]} * k.cols;
        for (int64_t col = begin; col < end; ++col) row[col] += gradient(col);
      }
    });
  });
}

void reference(const Cpu& cpu, const GatherColumns& k) {
  const int32_t* const ids = host(k.ids);
  const float* const a = host(k.a);
  float* const h = host(k.h);
  cpu.pool.for_range(k.tokens, 256, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t j = 0; j < k.ranks; ++j) h[t * k.ranks + j] = a[j * k.vocab + ids[t]];
  });
}

/// In the order of the tokens, whatever the number of threads.
void reference(const Cpu& cpu, const ScatterColumns& k) {
  const int32_t* const ids = host(k.ids);
  const float* const dh = host(k.dh);
  float* const da = host(k.da);
  cpu.pool.for_range(k.ranks - k.first, 1, [&](int64_t begin, int64_t end) {
    for (int64_t j = k.first + begin; j < k.first + end; ++j)
      for (int64_t t = 0; t < k.tokens; ++t) da[j * k.vocab + ids[t]] += dh[t * k.ranks + j];
  });
}

}  // namespace lowrank::cpu
