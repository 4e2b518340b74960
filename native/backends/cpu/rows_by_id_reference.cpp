#include "backends/cpu/reference.h"

namespace lowrank::cpu {

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

}  // namespace lowrank::cpu
