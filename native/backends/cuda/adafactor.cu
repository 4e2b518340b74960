#include "adafactor.h"
#include "device.cuh"

namespace lowrank::cuda {
namespace {

struct Stretch {
  int64_t begin, end;
};
LOWRANK_DEVICE Stretch stretch_of(int64_t count, int64_t stretch, int64_t stretches) {
  return {stretch * count / stretches, (stretch + 1) * count / stretches};
}

LOWRANK_DEVICE double squared(float v) { return static_cast<double>(v) * v; }

/// The sum of values by one block: each thread's in order, then over the threads.
LOWRANK_DEVICE double sum_of(const double* values, int64_t count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSquareThreads) sum += values[i];
  return block_sum(sum);
}

LOWRANK_DEVICE double square_of(const AdafactorArgs& args, int64_t i) {
  const double g = args.gradient[i] * args.grad_scale;
  return g * g + args.epsilon;
}
LOWRANK_DEVICE double update_of(const AdafactorArgs& args, int64_t i) {
  if (args.v) return args.gradient[i] * args.grad_scale / sqrt(static_cast<double>(args.v[i]));
  return args.gradient[i] * (args.grad_scale * args.by_row[i / args.cols]) * args.by_column[i % args.cols];
}
LOWRANK_DEVICE float moved(const AdafactorArgs& args, float mean, double value) {
  return static_cast<float>(args.keep * mean + (1 - args.keep) * value);
}
LOWRANK_DEVICE int64_t element() { return static_cast<int64_t>(blockIdx.x) * kSquareThreads + threadIdx.x; }

}  // namespace

LOWRANK_KERNEL(sum_of_squares, SumOfSquaresArgs, kSquareThreads, 4) {
  const Stretch stretch = stretch_of(args.count, blockIdx.x, args.stretches);
  double sum = 0;
  for (int64_t i = stretch.begin + threadIdx.x; i < stretch.end; i += kSquareThreads) sum += squared(args.x[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) args.partial[blockIdx.x] = sum;
}

LOWRANK_KERNEL(add_partial_sums, AddPartialSumsArgs, kSquareThreads, 1) {
  const double sum = sum_of(args.partial, args.stretches);
  if (threadIdx.x == 0) *args.out = sum;
}

/// A block a row.
LOWRANK_KERNEL(adafactor_rows, AdafactorArgs, kSquareThreads, 4) {
  const int64_t row = blockIdx.x;
  double sum = 0;
  for (int64_t col = threadIdx.x; col < args.cols; col += kSquareThreads) sum += square_of(args, row * args.cols + col);
  sum = block_sum(sum);
  if (threadIdx.x == 0) args.row[row] = moved(args, args.row[row], sum / static_cast<double>(args.cols));
}

/// A thread has a column of a stretch of rows.
LOWRANK_KERNEL(adafactor_column_sums, AdafactorArgs, kSquareThreads, 4) {
  const int64_t col = element();
  if (col >= args.cols) return;
  const Stretch stretch = stretch_of(args.rows, blockIdx.y, args.row_stretches);
  double sum = 0;
  for (int64_t row = stretch.begin; row < stretch.end; ++row) sum += square_of(args, row * args.cols + col);
  args.column_sums[blockIdx.y * args.cols + col] = sum;
}

LOWRANK_KERNEL(adafactor_columns, AdafactorArgs, kSquareThreads, 4) {
  const int64_t col = element();
  if (col >= args.cols) return;
  double sum = 0;
  for (int64_t stretch = 0; stretch < args.row_stretches; ++stretch) sum += args.column_sums[stretch * args.cols + col];
  const float mean = moved(args, args.column[col], sum / static_cast<double>(args.rows));
  args.column[col] = mean;
  args.by_column[col] = 1 / sqrt(static_cast<double>(mean));
}

/// One block.
LOWRANK_KERNEL(adafactor_row_factors, AdafactorArgs, kSquareThreads, 1) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < args.rows; row += kSquareThreads) sum += args.row[row];
  const double scale = static_cast<double>(args.rows) / block_sum(sum);
  for (int64_t row = threadIdx.x; row < args.rows; row += kSquareThreads)
    args.by_row[row] = 1 / sqrt(args.row[row] * scale);
}

LOWRANK_KERNEL(adafactor_vector, AdafactorArgs, kSquareThreads, 4) {
  const int64_t i = element();
  if (i < args.rows * args.cols) args.v[i] = moved(args, args.v[i], square_of(args, i));
}

LOWRANK_KERNEL(adafactor_squares, AdafactorArgs, kSquareThreads, 4) {
  const Stretch stretch = stretch_of(args.rows * args.cols, blockIdx.x, args.stretches);
  double of_p = 0, of_update = 0;
  for (int64_t i = stretch.begin + threadIdx.x; i < stretch.end; i += kSquareThreads) {
    const double update = update_of(args, i);
    of_update += update * update;
    if (args.scale_parameter) of_p += squared(args.p[i]);
  }
  of_p = block_sum(of_p);
  of_update = block_sum(of_update);
  if (threadIdx.x != 0) return;
  args.squares_p[blockIdx.x] = of_p;
  args.squares_u[blockIdx.x] = of_update;
}

/// One block.
LOWRANK_KERNEL(adafactor_step, AdafactorArgs, kSquareThreads, 1) {
  const double count = static_cast<double>(args.rows * args.cols);
  const double size = sqrt(sum_of(args.squares_u, args.stretches) / count);
  const double size_of_p = sqrt(sum_of(args.squares_p, args.stretches) / count);
  if (threadIdx.x != 0) return;
  const double scale = args.scale_parameter ? fmax(args.least_scale, size_of_p) : 1.0;
  const double rate = args.learning_rate * scale;
  args.step[0] = rate / fmax(1.0, size / args.clip_threshold);
  args.step[1] = 1 - args.weight_decay * rate;
}

LOWRANK_KERNEL(adafactor_apply, AdafactorArgs, kSquareThreads, 4) {
  const int64_t i = element();
  if (i < args.rows * args.cols)
    args.p[i] = static_cast<float>(args.p[i] * args.step[1] - args.step[0] * update_of(args, i));
}

}  // namespace lowrank::cuda
