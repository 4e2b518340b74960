#include "backends/cpu/reference.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const BiasGradient& k) {
  float* const db = host(k.db);
  with_rows(k.dy, [&](auto&& row_of) {
    for_columns(cpu, k.cols, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < k.rows; ++row) {
        const auto gradient = row_of(row);
        for (int64_t col = begin; col < end; ++col) db[col] += gradient(col);
      }
    });
  });
}

void reference(const Cpu& cpu, const ScaleColumnsBackward& k) {
  cpu.pool.for_range(k.cols, kColumnChunk, [&](int64_t begin, int64_t end) {
    for (int64_t col = begin; col < end; ++col) {
      double sum = 0;
      for (int64_t row = 0; row < k.rows; ++row) {
        const double d = get(k.dy, row, col);
        sum += d * get(k.x, row, col);
        set(k.dx, row, col, d * host(k.gain)[col]);
      }
      host(k.dgain)[col] += static_cast<float>(sum * host(k.share)[col]);
    }
  });
}

int64_t workspace(const BiasGradient&, int) { return 0; }
int64_t workspace(const ScaleColumnsBackward&, int) { return 0; }

}  // namespace lowrank::cpu
