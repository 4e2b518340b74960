#include "adapters/output_norms.h"

#include <vector>

namespace lowrank {
namespace {

float element(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::f32) return static_cast<const float*>(data)[index];
  return f32_from_bf16(static_cast<const uint16_t*>(data)[index]);
}

}  // namespace

void add_second_moment(Pool& pool, int64_t tokens, int64_t rank, const void* h, DType dtype, int64_t ld,
                       double* moment) {
  pool.for_range(rank, 4, [&](int64_t begin, int64_t end) {
    std::vector<double> row(rank);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t j = 0; j < rank; ++j) row[j] = element(h, dtype, t * ld + j);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < rank; ++j) moment[i * rank + j] += row[i] * row[j];
    }
  });
}

double output_norm(int64_t rows, int64_t rank, const float* folded, const double* moment) {
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const float* const row = folded + i * rank;
    for (int64_t k = 0; k < rank; ++k) {
      double part = 0;
      for (int64_t j = 0; j < rank; ++j) part += moment[k * rank + j] * row[j];
      sum += row[k] * part;
    }
  }
  return sum;
}

}  // namespace lowrank
