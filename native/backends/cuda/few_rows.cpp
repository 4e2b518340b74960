#include "backends/cuda/few_rows.h"

#include "backends/cuda/gemm_tiles.h"
#include "backends/cuda/multiply.h"
#include "backends/cuda/weight.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kVectorRows = 4, kCodeRows = 64;
constexpr int64_t kCodeTile = 128, kLeastBlocks = 4;

/// The one segment with a base weight, or the first where all are dense; -1 where there are several.
int base_of(std::span<const Segment> segments) {
  int base = segments.empty() ? -1 : 0, weights = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].w.weight < 0) continue;
    base = static_cast<int>(i);
    ++weights;
  }
  return weights > 1 ? -1 : base;
}

int64_t code_parts(int64_t n, int64_t blocks) { return parts_of(ceil_div(n, kCodeTile), blocks, kLeastBlocks); }

// In the order of DeviceFormat.
#define LOWRANK_GEMV(format) {"gemv_" #format},
constexpr KernelOf<GemmCodesArgs> kGemv[] = {LOWRANK_WEIGHT_FORMATS(LOWRANK_GEMV)};
#undef LOWRANK_GEMV
constexpr KernelOf<GemmCodesArgs> kGemmCodes[2][3] = {{{"gemm_nf4_16"}, {"gemm_nf4_32"}, {"gemm_nf4_64"}},
                                                      {{"gemm_fp4_16"}, {"gemm_fp4_32"}, {"gemm_fp4_64"}}};

void multiply_codes(Launcher& launcher, GemmCodesArgs args, Ptr<std::byte> room) {
  const int64_t blocks = args.w.cols / 64, parts = code_parts(args.rest.n, blocks);
  const GemmArgs whole = args.rest;
  if (parts > 1) args.rest = part_args(args.rest, room);
  args.rest.part_steps = ceil_div(blocks, parts);
  // Rows of a tile: 16, 32 or 64, whose kernels have stages and threads of their own; see gemm_four_bit.cu.
  const int size = whole.m <= 16 ? 0 : whole.m <= 32 ? 1 : 2;
  const int64_t stages = size == 2 ? 3 : 4, shared = stages * ((16 << size) * 128 + kCodeTile * 32);
  const auto& kernel = kGemmCodes[args.w.format == DeviceFormat::fp4 ? 1 : 0][size];
  launcher.launch(kernel, {1, ceil_div(whole.n, kCodeTile), parts}, size >= 1 ? 256 : 128, args, shared);
  if (parts > 1) add_parts_of(launcher, whole, room, parts);
}

}  // namespace

bool multiply_few_rows(Launcher& launcher, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments,
                       const Output& to, Ptr<std::byte> workspace) {
  const int base = base_of(segments);
  if (m > kCodeRows || base < 0 || segments.size() > kMostSegments) return false;
  const Segment& first = segments[static_cast<size_t>(base)];
  const DeviceWeight w = device_weight(launcher.weights(), first.w);
  const bool codes = is_four_bit(w.format) && w.cols % 64 == 0 && precision == Precision::bf16;
  if (m > kVectorRows && !codes) return false;
  GemmCodesArgs args{w, operand_of(first.x), precision == Precision::bf16, output_args(m, n, to)};
  for (size_t i = 0; i < segments.size(); ++i) {
    if (static_cast<int>(i) == base || segments[i].w.cols == 0) continue;
    const DeviceWeight dense = device_weight(launcher.weights(), segments[i].w);
    args.rest.segment[args.rest.segments++] = {operand_of(segments[i].x), operand_of(dense_matrix(dense)), dense.cols};
  }
  if (m > kVectorRows) {
    multiply_codes(launcher, args, workspace);
  } else {
    launcher.launch(kGemv[static_cast<int>(w.format)], {ceil_div(n, 16)}, 256, args);
  }
  return true;
}

int64_t few_rows_workspace(bool nt, int64_t n, std::span<const Segment> segments) {
  const int base = base_of(segments);
  if (!nt || base < 0) return 0;
  const Factor& w = segments[static_cast<size_t>(base)].w;
  if (w.weight < 0 || w.cols % 64 != 0) return 0;
  const int64_t parts = code_parts(n, w.cols / 64);  // the same for any number of rows
  return parts == 1 ? 0 : parts * kCodeRows * n * int64_t{sizeof(float)};
}

}  // namespace lowrank::cuda
