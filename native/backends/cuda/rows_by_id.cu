// Sums and copies of rows or columns that are picked by ids of tokens.
#include "cells.h"

namespace lowrank::cuda {

/// table[ids[t], col] += dy[t, col], in the order of the tokens.
struct EmbeddingGradientArgs {
  int64_t tokens, cols;
  const int32_t* ids;
  Cells dy;
  float* table;
};
struct GatherColumnsArgs {
  int64_t tokens, ranks, vocab;
  const int32_t* ids;
  const float* a;
  float* h;
};
/// a[j, ids[t]] += h[t, j] for j from `first`, in the order of the tokens.
struct ScatterColumnsArgs {
  int64_t tokens, first, ranks, vocab;
  const int32_t* ids;
  const float* h;
  float* a;
};
inline constexpr int kIdThreads = 256;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

/// Calls body(t) in every thread of the block for the tokens with the id of token `first`, in order, if that is the
/// first of them.
template <class Body>
LOWRANK_DEVICE void for_tokens_of_id(int64_t first, int64_t tokens, const int32_t* ids, Body&& body) {
  LOWRANK_SHARED(uint32_t, found, [kIdThreads / 32]);
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t id = ids[first];
  bool earlier = false;
  for (int64_t t = thread; t < first; t += kIdThreads) earlier = earlier || ids[t] == id;
  if (__syncthreads_or(earlier)) return;
  for (int64_t begin = first; begin < tokens; begin += kIdThreads) {
    const uint32_t lanes = __ballot_sync(kAllLanes, begin + thread < tokens && ids[begin + thread] == id);
    if ((thread & 31) == 0) found[thread >> 5] = lanes;
    __syncthreads();
    for (int warp = 0; warp < kIdThreads / 32; ++warp)
      for (uint32_t left = found[warp]; left != 0; left &= left - 1)
        body(begin + warp * 32 + __popc((left & (0 - left)) - 1));
    __syncthreads();
  }
}

}  // namespace

/// A block has a token and 2048 columns.
LOWRANK_KERNEL(embedding_gradient, EmbeddingGradientArgs, kIdThreads, 4) {
  const int64_t col = (static_cast<int64_t>(blockIdx.y) * kIdThreads + threadIdx.x) * 8, left = args.cols - col;
  const int count = left < 8 ? (left > 0 ? static_cast<int>(left) : 0) : 8;
  const int64_t first = blockIdx.x;
  float* const row = args.table + args.ids[first] * args.cols + col;
  const bool wide = aligned16(args.table) && args.cols % 4 == 0;
  for_tokens_of_id(first, args.tokens, args.ids, [&](int64_t t) {
    if (count == 0) return;
    float v[8], sum[8];
    load(v, args.dy, t, col, count);
    load_some(sum, row, count, wide);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += v[i];
    store_some(row, sum, count, wide);
  });
}

LOWRANK_KERNEL(gather_columns, GatherColumnsArgs, kIdThreads, 4) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kIdThreads + threadIdx.x;
  if (at >= args.tokens * args.ranks) return;
  args.h[at] = args.a[at % args.ranks * args.vocab + args.ids[at / args.ranks]];
}

LOWRANK_KERNEL(scatter_columns, ScatterColumnsArgs, kIdThreads, 4) {
  const int64_t first = blockIdx.x;
  for_tokens_of_id(first, args.tokens, args.ids, [&](int64_t t) {
    for (int64_t j = args.first + threadIdx.x; j < args.ranks; j += kIdThreads)
      args.a[j * args.vocab + args.ids[first]] += args.h[t * args.ranks + j];
  });
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

constexpr auto embedding_gradient = kernel_of<EmbeddingGradientArgs>("embedding_gradient");
constexpr auto gather_columns = kernel_of<GatherColumnsArgs>("gather_columns");
constexpr auto scatter_columns = kernel_of<ScatterColumnsArgs>("scatter_columns");

}  // namespace

void run(Launcher& launcher, const EmbeddingGradient& k, Ptr<std::byte>) {
  constexpr int64_t kCols = int64_t{kIdThreads} * kColumnsAtOnce;
  launcher.launch(embedding_gradient, {k.tokens, (k.cols + kCols - 1) / kCols}, kIdThreads,
                  {k.tokens, k.cols, device_pointer(k.ids), cells_of(k.dy), device_pointer(k.dtable)});
}

void run(Launcher& launcher, const GatherColumns& k, Ptr<std::byte>) {
  launcher.launch(gather_columns, blocks_of(k.tokens * k.ranks, kIdThreads), kIdThreads,
                  {k.tokens, k.ranks, k.vocab, device_pointer(k.ids), device_pointer(k.a), device_pointer(k.h)});
}

void run(Launcher& launcher, const ScatterColumns& k, Ptr<std::byte>) {
  launcher.launch(
      scatter_columns, {k.tokens}, kIdThreads,
      {k.tokens, k.first, k.ranks, k.vocab, device_pointer(k.ids), device_pointer(k.dh), device_pointer(k.da)});
}

}  // namespace lowrank::cuda

#endif
