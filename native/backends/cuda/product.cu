// Products of strided matrices.
#include "product.h"

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE int64_t row_offset(const Strided& s, int64_t row) {
  return row / s.group * s.high + row % s.group * s.low;
}
/// Rows of an operand's tile that a thread copies. Neighbors in memory go to neighboring threads.
template <int Rows, int Threads>
struct Loader {
  static constexpr int kCount = Rows * kProductTerms / Threads;
  int64_t rows[kCount];  // offsets, or -1 beyond the matrix

  __device__ __forceinline__ static int place(const Strided& s, int i) {
    const int at = i * Threads + static_cast<int>(threadIdx.x);
    return s.inner == 1 ? at : at % Rows * kProductTerms + at / Rows;
  }
  __device__ __forceinline__ Loader(const Strided& s, int64_t batch, int64_t first, int64_t count) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t row = first + place(s, i) / kProductTerms;
      rows[i] = row < count ? batch * s.batch + row_offset(s, row) : -1;
    }
  }
  /// Terms from (outer, inner) on, `terms` of them.
  __device__ __forceinline__ void load(const Strided& s, int64_t outer, int64_t inner, int64_t inners, int64_t terms,
                                       float (&tile)[kProductTerms][Rows + 4]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = place(s, i), term = at % kProductTerms;
      int64_t o = outer, c = inner + term;
      while (c >= inners) {
        c -= inners;
        ++o;
      }
      const bool there = rows[i] >= 0 && term < terms;
      tile[term][at / kProductTerms] = there ? element(s.data, s.bf16, rows[i] + o * s.outer + c * s.inner) : 0;
    }
  }
};

/// Stores the first `count` of four neighbors of a row, at once where they are four at a fitting address.
LOWRANK_DEVICE void store_four(const Strided& out, int64_t at, const float (&v)[4], int64_t count) {
  const bool together = out.inner == 1 && count >= 4;
  if (out.bf16) {
    auto* const to = static_cast<__nv_bfloat16*>(out.data) + at;
    if (together && reinterpret_cast<uint64_t>(to) % 8 == 0) {
      *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])};
      return;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < count) to[j * out.inner] = from_float<__nv_bfloat16>(v[j]);
    return;
  }
  auto* const to = static_cast<float*>(out.data) + at;
  if (together && aligned16(to)) return store16(to, Pack<float>{{v[0], v[1], v[2], v[3]}});
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (j < count) to[j * out.inner] = v[j];
}

template <int Cols>
LOWRANK_DEVICE void product(const StridedProductArgs& args) {
  constexpr int kThreads = product_threads(Cols);
  LOWRANK_SHARED_ALIGNED(16, float, left, [kProductTerms][kProductRows + 4]);
  LOWRANK_SHARED_ALIGNED(16, float, right, [kProductTerms][Cols + 4]);
  const int64_t down = (args.m + kProductRows - 1) / kProductRows, across = (args.n + Cols - 1) / Cols;
  int64_t block = blockIdx.x;
  const int64_t column = block % across * Cols;
  block /= across;
  const int64_t row = block % down * kProductRows;
  block /= down;
  const int64_t batch = block % args.batches, stretch = block / args.batches;

  const Loader<kProductRows, kThreads> a(args.a, batch, row, args.m);
  const Loader<Cols, kThreads> b(args.b, batch, column, args.n);
  const int64_t begin = stretch * args.stretch;
  int64_t left_over = min(args.stretch, args.outer * args.inner - begin);
  int64_t outer = begin / args.inner, inner = begin % args.inner;
  const int x = static_cast<int>(threadIdx.x) % (Cols / 4) * 4, y = static_cast<int>(threadIdx.x) / (Cols / 4) * 4;
  float sums[4][4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = 0;
  for (; left_over > 0; left_over -= kProductTerms) {
    a.load(args.a, outer, inner, args.inner, left_over, left);
    b.load(args.b, outer, inner, args.inner, left_over, right);
    inner += kProductTerms;
    while (inner >= args.inner) {
      inner -= args.inner;
      ++outer;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kProductTerms; ++k) {
      const Pack<float> u = load16(&left[k][y]), v = load16(&right[k][x]);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(u.at[i], v.at[j], sums[i][j]);
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t r = row + y + i, first = column + x;
    if (r >= args.m) continue;
    const int64_t at = batch * args.out.batch + row_offset(args.out, r) + stretch * args.out.outer;
    const int64_t added = args.addend.data ? batch * args.addend.batch + row_offset(args.addend, r) : 0;
    float values[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t c = first + j;
      values[j] = args.alpha * sums[i][j];
      if (c >= args.n) continue;
      if (args.gains) values[j] *= args.gains[(at + c * args.out.inner) % args.gain_count];
      if (args.addend.data) values[j] += element(args.addend.data, args.addend.bf16, added + c * args.addend.inner);
      if (r == c) values[j] += args.diagonal;
    }
    store_four(args.out, at + first * args.out.inner, values, args.n - first);
  }
}

}  // namespace

LOWRANK_KERNEL(product_64, StridedProductArgs, 256, 2) { product<64>(args); }
LOWRANK_KERNEL(product_16, StridedProductArgs, 64, 8) { product<16>(args); }

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/strided.h"

namespace lowrank::cuda {
namespace {

// By the columns of a tile.
constexpr auto product_64 = kernel_of<StridedProductArgs>("product_64");
constexpr auto product_16 = kernel_of<StridedProductArgs>("product_16");

constexpr int64_t kLeastTerms = 256;  // of a stretch
constexpr int64_t kMostStretches = 256;
constexpr int64_t kMostSums = int64_t{1} << 20;  // elements of all stretches, where one has fewer

}  // namespace

void multiply(Launcher& launcher, StridedProductArgs args) {
  if (args.stretches == 0) {
    args.stretches = 1;
    args.stretch = args.outer * args.inner;
  }
  const int cols = args.n <= 32 ? 16 : 64;
  const int64_t tiles = ceil_div(args.m, kProductRows) * ceil_div(args.n, cols);
  launcher.launch(cols == 16 ? product_16 : product_64, {tiles * args.batches * args.stretches}, product_threads(cols),
                  args);
}

int64_t stretches_of(int64_t terms, int64_t elements) {
  const int64_t most = std::clamp<int64_t>(kMostSums / std::max<int64_t>(elements, 1), 1, kMostStretches);
  return std::clamp<int64_t>(ceil_div(terms, kLeastTerms), 1, most);
}

int64_t stretches_bytes(int64_t terms, int64_t elements) {
  return round_up(stretches_of(terms, elements) * elements * 4, 256);
}

void add_product(Launcher& launcher, StridedProductArgs args, Ptr<float> to, Ptr<std::byte> workspace) {
  const int64_t terms = args.outer * args.inner, elements = args.batches * args.m * args.n;
  if (terms == 0 || elements == 0) return;
  args.stretch = ceil_div(terms, stretches_of(terms, elements));
  args.stretches = ceil_div(terms, args.stretch);
  args.out = strided(workspace.as<float>());
  args.out.batch = args.m * args.n;
  args.out.low = 0;
  args.out.high = args.n;
  args.out.inner = 1;
  args.out.outer = elements;
  multiply(launcher, args);
  add_sums(launcher, elements, args.stretches, workspace.as<float>(), to);
}

}  // namespace lowrank::cuda

#endif
