// Adafactor, and sums of squares.
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
  int32_t unused = 0;
  // Workspace.
  int64_t row_stretches, stretches;
  double* column_sums;            // [row_stretches, cols]
  double *by_row, *by_column;     // 1 / root of the means
  double *squares_p, *squares_u;  // [stretches]: of the parameter and of its update
  double* step;                   // and decay
};
inline constexpr int kSquareThreads = 256;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
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

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr auto sum_of_squares = kernel_of<SumOfSquaresArgs>("sum_of_squares");
constexpr auto add_partial_sums = kernel_of<AddPartialSumsArgs>("add_partial_sums");
constexpr auto adafactor_rows = kernel_of<AdafactorArgs>("adafactor_rows");
constexpr auto adafactor_column_sums = kernel_of<AdafactorArgs>("adafactor_column_sums");
constexpr auto adafactor_columns = kernel_of<AdafactorArgs>("adafactor_columns");
constexpr auto adafactor_row_factors = kernel_of<AdafactorArgs>("adafactor_row_factors");
constexpr auto adafactor_vector = kernel_of<AdafactorArgs>("adafactor_vector");
constexpr auto adafactor_squares = kernel_of<AdafactorArgs>("adafactor_squares");
constexpr auto adafactor_step = kernel_of<AdafactorArgs>("adafactor_step");
constexpr auto adafactor_apply = kernel_of<AdafactorArgs>("adafactor_apply");

/// Sums that are formed side by side; a number of the count alone, so that results are the same on every card.
int64_t stretches_of(int64_t count) { return std::clamp<int64_t>((count + 8191) / 8192, 1, 512); }
int64_t row_stretches_of(int64_t rows) { return std::clamp<int64_t>(ceil_div(rows, 64), 1, 64); }

/// Hands out doubles of a workspace, or counts them.
struct Room {
  double* at = nullptr;
  int64_t used = 0;

  double* take(int64_t count) {
    double* const begin = at == nullptr ? nullptr : at + used;
    used += count;
    return begin;
  }
};

AdafactorArgs args_of(const Adafactor& k, Room& room) {
  AdafactorArgs args{};
  args.rows = k.rows;
  args.cols = k.cols;
  args.grad_scale = k.grad_scale;
  args.keep = 1 - math::pow(static_cast<double>(k.step), k.settings.decay_rate);
  args.epsilon = k.settings.epsilon;
  args.gradient = device_pointer(k.gradient);
  args.row = device_pointer(k.row);
  args.column = device_pointer(k.column);
  args.v = device_pointer(k.v);
  args.p = device_pointer(k.p);
  args.learning_rate = k.learning_rate;
  args.weight_decay = k.weight_decay;
  args.least_scale = k.settings.least_scale;
  args.clip_threshold = k.settings.clip_threshold;
  args.scale_parameter = k.settings.scale_parameter;
  args.stretches = stretches_of(k.rows * k.cols);
  args.squares_p = room.take(args.stretches);
  args.squares_u = room.take(args.stretches);
  args.step = room.take(2);
  if (!k.v) {
    args.row_stretches = row_stretches_of(k.rows);
    args.column_sums = room.take(args.row_stretches * k.cols);
    args.by_row = room.take(k.rows);
    args.by_column = room.take(k.cols);
  }
  return args;
}

}  // namespace

int64_t workspace(const Card&, const Adafactor& k) {
  Room room;
  args_of(k, room);
  return room.used * int64_t{sizeof(double)};
}

void run(Launcher& launcher, const Adafactor& k, Ptr<std::byte> workspace) {
  if (k.rows * k.cols == 0) return;
  Room room{device_pointer(workspace.as<double>())};
  const AdafactorArgs args = args_of(k, room);
  const Grid of_columns = blocks_of(k.cols, kSquareThreads), of_elements = blocks_of(k.rows * k.cols, kSquareThreads);
  if (k.v) {
    launcher.launch(adafactor_vector, of_elements, kSquareThreads, args);
  } else {
    launcher.launch(adafactor_rows, {k.rows}, kSquareThreads, args);
    launcher.launch(adafactor_row_factors, {}, kSquareThreads, args);
    launcher.launch(adafactor_column_sums, {of_columns.x, args.row_stretches}, kSquareThreads, args);
    launcher.launch(adafactor_columns, of_columns, kSquareThreads, args);
  }
  launcher.launch(adafactor_squares, {args.stretches}, kSquareThreads, args);
  launcher.launch(adafactor_step, {}, kSquareThreads, args);
  launcher.launch(adafactor_apply, of_elements, kSquareThreads, args);
}

int64_t workspace(const Card&, const SumOfSquares& k) { return stretches_of(k.count) * int64_t{sizeof(double)}; }

void run(Launcher& launcher, const SumOfSquares& k, Ptr<std::byte> workspace) {
  const int64_t stretches = stretches_of(k.count);
  double* const out = device_pointer(k.out);
  double* const partial = stretches == 1 ? out : device_pointer(workspace.as<double>());
  launcher.launch(sum_of_squares, {stretches}, kSquareThreads, {k.count, stretches, device_pointer(k.x), partial});
  if (stretches > 1) launcher.launch(add_partial_sums, {}, kSquareThreads, {stretches, partial, out});
}

}  // namespace lowrank::cuda

#endif
