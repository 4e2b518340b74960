// Products in fp32, and those of pairs: tiles of 64 x 64, a thread four rows by four columns. Sums of 16 terms are
// added to those before them, so that errors grow with the number of such steps alone.
#include "gemm.h"
#include "pair.h"

namespace lowrank::cuda {

/// Two products of few ranks, b a and b2 a2 [rows, cols]; see Pair of kernels/factors.h.
struct PairArgs : PairOperands {
  const float* row_gains;
  float scale;          // add_pair
  int32_t has_base;     // add_pair: out holds it
  float *out, *second;  // split_pair: the gradient, and that of the second product
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"
#include "gemm_tile.cuh"

namespace lowrank::cuda {
namespace {

constexpr int kSide = 64, kDepth = 16, kThreads = 256;
constexpr int kPanelLd = kSide + 2;  // so that lanes that go along the depth meet different banks

LOWRANK_DEVICE float element(const GemmOperand& from, int64_t at) {
  if (from.is_f32 != 0) return static_cast<const float*>(from.data)[at];
  return to_float(static_cast<const __nv_bfloat16*>(from.data)[at]);
}

/// panel[k, i] = element (first + i, k) of a factor, which lies as [i, k] or, transposed, as [k, i].
template <bool kTransposed>
LOWRANK_DEVICE void load_panel_f32(float* panel, const GemmOperand& from, int64_t first, int64_t count, int64_t k0,
                                   int64_t depth) {
#pragma unroll
  for (int j = 0; j < kSide * kDepth / kThreads; ++j) {
    const int index = static_cast<int>(threadIdx.x) + j * kThreads;
    const int i = kTransposed ? index % kSide : index / kDepth;
    const int k = kTransposed ? index / kSide : index % kDepth;
    const bool there = first + i < count && k0 + k < depth;
    const int64_t at = kTransposed ? (k0 + k) * from.ld + first + i : (first + i) * from.ld + k0 + k;
    panel[k * kPanelLd + i] = there ? element(from, at) : 0;
  }
}

/// Adds the products of two panels to the sums of a thread, whose first row and column are these.
LOWRANK_DEVICE void multiply_panels(const float* x, const float* w, int row, int column, float (&sums)[4][4]) {
  float part[4][4] = {};
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    float a[4], b[4];
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const float2 a2 = *reinterpret_cast<const float2*>(x + k * kPanelLd + row + i);
      const float2 b2 = *reinterpret_cast<const float2*>(w + k * kPanelLd + column + i);
      a[i] = a2.x;
      a[i + 1] = a2.y;
      b[i] = b2.x;
      b[i + 1] = b2.y;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) part[i][j] = fmaf(a[i], b[j], part[i][j]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] += part[i][j];
}

template <bool kTransX, bool kTransW>
LOWRANK_DEVICE void multiply_f32(const GemmArgs& args) {
  LOWRANK_SHARED_ALIGNED(16, float, x, [kDepth * kPanelLd]);
  LOWRANK_SHARED_ALIGNED(16, float, w, [kDepth * kPanelLd]);
  const int64_t m0 = int64_t{blockIdx.x} * kSide, n0 = int64_t{blockIdx.y} * kSide;
  const int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;
  float sums[4][4] = {};
  for (int s = 0; s < args.segments; ++s) {
    const GemmSegment& segment = args.segment[s];
    for (int64_t k = 0; k < segment.k; k += kDepth) {
      __syncthreads();
      load_panel_f32<kTransX>(x, segment.x, m0, args.m, k, segment.k);
      load_panel_f32<kTransW>(w, segment.w, n0, args.n, k, segment.k);
      __syncthreads();
      multiply_panels(x, w, row, column, sums);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    store_four(args, m0 + row + i, n0 + column, {{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}});
}

/// Both products of a pair at a thread's 4 x 4 elements.
LOWRANK_DEVICE void multiply_pair(const PairArgs& args, int row, int column, float (&first)[4][4],
                                  float (&second)[4][4]) {
  LOWRANK_SHARED_ALIGNED(16, float, x, [kDepth * kPanelLd]);
  LOWRANK_SHARED_ALIGNED(16, float, w, [kDepth * kPanelLd]);
  const int64_t m0 = int64_t{blockIdx.x} * kSide, n0 = int64_t{blockIdx.y} * kSide;
#pragma unroll
  for (int which = 0; which < 2; ++which) {
    const int64_t rank = which == 0 ? args.rank : args.rank2;
    const GemmOperand b{which == 0 ? args.b : args.b2, rank, 1, 0}, a{which == 0 ? args.a : args.a2, args.cols, 1, 0};
    for (int64_t k = 0; k < rank; k += kDepth) {
      __syncthreads();
      load_panel_f32<false>(x, b, m0, args.rows, k, rank);
      load_panel_f32<true>(w, a, n0, args.cols, k, rank);
      __syncthreads();
      multiply_panels(x, w, row, column, which == 0 ? first : second);
    }
  }
}

/// each(index, row, a, b) with the products at every element of a thread.
template <class Each>
LOWRANK_DEVICE void for_pair(const PairArgs& args, Each&& each) {
  const int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;
  float first[4][4] = {}, second[4][4] = {};
  multiply_pair(args, row, column, first, second);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t r = int64_t{blockIdx.x} * kSide + row + i;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t c = int64_t{blockIdx.y} * kSide + column + j;
      if (r < args.rows && c < args.cols) each(r * args.cols + c, r, first[i][j], second[i][j]);
    }
  }
}

}  // namespace

LOWRANK_KERNEL(gemm_nt_f32, GemmArgs, kThreads, 2) { multiply_f32<false, false>(args); }
LOWRANK_KERNEL(gemm_nn_f32, GemmArgs, kThreads, 2) { multiply_f32<false, true>(args); }
LOWRANK_KERNEL(gemm_tn_f32, GemmArgs, kThreads, 2) { multiply_f32<true, true>(args); }

LOWRANK_KERNEL(add_pair, PairArgs, kThreads, 2) {
  for_pair(args, [&](int64_t at, int64_t row, float first, float second) {
    const float gain = args.row_gains != nullptr ? args.scale * args.row_gains[row] : args.scale;
    args.out[at] = fmaf(gain * first, second, args.has_base != 0 ? args.out[at] : 0.0f);
  });
}

LOWRANK_KERNEL(split_pair, PairArgs, kThreads, 2) {
  for_pair(args, [&](int64_t at, int64_t row, float first, float second) {
    const float change = args.row_gains != nullptr ? args.out[at] * args.row_gains[row] : args.out[at];
    args.out[at] = change * second;
    args.second[at] = change * first;
  });
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/launch_pair.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/weight.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr KernelOf<PairArgs> add_pair{"add_pair"}, split_pair{"split_pair"};

PairArgs pair_args(const Pair& pair, Ptr<float> row_gains) {
  PairArgs args{};
  static_cast<PairOperands&>(args) = operands_of(pair);
  args.row_gains = device_pointer(row_gains);
  return args;
}
void launch_pair(Launcher& launcher, const KernelOf<PairArgs>& kernel, const PairArgs& args) {
  launcher.launch(kernel, {ceil_div(args.rows, 64), ceil_div(args.cols, 64)}, 256, args);
}

}  // namespace

void run(Launcher& launcher, const AddPair& k, Ptr<std::byte>) {
  PairArgs args = pair_args(k.pair, k.row_gains);
  args.scale = k.scale;
  args.out = device_pointer(k.out);
  args.has_base = k.base.rows > 0;
  if (args.has_base != 0)
    dequantize(launcher, device_weight(launcher.weights(), k.base), 0, k.pair.cols, f32_matrix(k.out, k.pair.cols));
  launch_pair(launcher, add_pair, args);
}
void run(Launcher& launcher, const SplitPair& k, Ptr<std::byte>) {
  PairArgs args = pair_args(k.pair, k.row_gains);
  args.out = device_pointer(k.g);
  args.second = device_pointer(k.second);
  launch_pair(launcher, split_pair, args);
}

}  // namespace lowrank::cuda

#endif
