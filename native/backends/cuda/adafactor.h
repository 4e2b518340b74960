// Adafactor and sums of squares, in double: sums of stretches whose number is that of the shape, then in order.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// partial[stretch] = sum over the stretch of x^2.
struct SumOfSquaresArgs {
  int64_t count, stretches;
  const float* x;
  double* partial;
};
/// out = sum over the stretches of the partial sums.
struct AddPartialSumsArgs {
  int64_t stretches;
  const double* partial;
  double* out;
};

struct AdafactorArgs {
  int64_t rows, cols;
  double grad_scale, keep, epsilon;
  const float* gradient;
  float *row, *column;  // of a matrix; null for a vector
  float* v;             // of a vector
  float* p;
  // The step's settings, which are needed once the sums are known.
  double learning_rate, weight_decay, least_scale, clip_threshold;
  int32_t scale_parameter;
  // Workspace.
  int64_t row_stretches, stretches;
  double* column_sums;            // [row_stretches, cols]
  double *by_row, *by_column;     // 1 / root of the means
  double *squares_p, *squares_u;  // [stretches]: of the parameter and of its update
  double* step;                   // and decay
};
inline constexpr int kSquareThreads = 256;

#define LOWRANK_ADAFACTOR_KERNELS(X)      \
  X(sum_of_squares, SumOfSquaresArgs)     \
  X(add_partial_sums, AddPartialSumsArgs) \
  X(adafactor_rows, AdafactorArgs)        \
  X(adafactor_column_sums, AdafactorArgs) \
  X(adafactor_columns, AdafactorArgs)     \
  X(adafactor_row_factors, AdafactorArgs) \
  X(adafactor_vector, AdafactorArgs)      \
  X(adafactor_squares, AdafactorArgs)     \
  X(adafactor_step, AdafactorArgs)        \
  X(adafactor_apply, AdafactorArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_ADAFACTOR_KERNELS)

}  // namespace lowrank::cuda
