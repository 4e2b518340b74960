#include "backends/cuda/adafactor.h"

#include <algorithm>

#include "backends/cuda/launch_cells.h"
#include "backends/cuda/optimizers.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

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
