#include "backends/cuda/columns_launches.h"

#include "backends/cuda/columns.h"
#include "backends/cuda/runs.h"

namespace lowrank::cuda {

int64_t row_stretches(int64_t rows) {
  constexpr int64_t kMost = 64, kLeastRows = 32;
  return std::clamp<int64_t>((rows + kLeastRows - 1) / kLeastRows, 1, kMost);
}

namespace {

int64_t bytes_of(int64_t rows, int64_t cols) { return row_stretches(rows) * cols * int64_t{sizeof(float)}; }

/// @param args without stretches and partial sums
void add_sums(Launcher& launcher, ColumnSumsArgs args, const float* share, float* to, Ptr<std::byte> workspace) {
  if (args.cols == 0) return;
  args.stretches = row_stretches(args.rows);
  args.partial = device_pointer(workspace.as<float>());
  launcher.launch(column_sums, {(args.cols + kSumColumns - 1) / kSumColumns, args.stretches}, kSumThreads, args);
  launcher.launch(add_column_sums, blocks_of(args.cols, kSumThreads), kSumThreads,
                  {args.cols, args.stretches, args.partial, share, to});
}

}  // namespace

void run(Launcher& launcher, const NormGradient& k, Ptr<std::byte> workspace) {
  add_sums(launcher,
           {k.rows * k.groups,
            k.groups,
            k.cols,
            0,
            grouped_cells(k.dy, k.groups, k.cols),
            grouped_cells(k.x, k.groups, k.cols),
            device_pointer(k.rstd),
            nullptr,
            {},
            nullptr},
           nullptr, device_pointer(k.dw), workspace);
}

void run(Launcher& launcher, const BiasGradient& k, Ptr<std::byte> workspace) {
  add_sums(launcher, {k.rows, 1, k.cols, 0, cells_of(k.dy), {}, nullptr, nullptr, {}, nullptr}, nullptr,
           device_pointer(k.db), workspace);
}

void run(Launcher& launcher, const ScaleColumnsBackward& k, Ptr<std::byte> workspace) {
  add_sums(
      launcher,
      {k.rows, 1, k.cols, 0, cells_of(k.dy), cells_of(k.x), nullptr, device_pointer(k.gain), cells_of(k.dx), nullptr},
      device_pointer(k.share), device_pointer(k.dgain), workspace);
}

int64_t workspace(const Card&, const NormGradient& k) { return bytes_of(k.rows * k.groups, k.cols); }
int64_t workspace(const Card&, const BiasGradient& k) { return bytes_of(k.rows, k.cols); }
int64_t workspace(const Card&, const ScaleColumnsBackward& k) { return bytes_of(k.rows, k.cols); }

}  // namespace lowrank::cuda
