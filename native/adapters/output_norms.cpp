#include "adapters/output_norms.h"

namespace lowrank {

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
