// The loss of rows of logits and its gradient: a row is read twice, a block each.
#include "device.cuh"
#include "loss.h"

namespace lowrank::cuda {
namespace {

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);
constexpr int kThreads = 512;
constexpr int kPiece = 2 * 4 * kThreads;  // columns whose gradients wait for the logits below them to be read

/// Four neighbors, those beyond the vocabulary being minus infinity.
LOWRANK_DEVICE void load4(const float* row, int64_t col, int64_t vocab, bool aligned, float (&v)[4]) {
  if (aligned && col + 4 <= vocab) {
    const Pack<float> pack = load16(row + col);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = pack.at[i];
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = col + i < vocab ? row[col + i] : -kInfinity;
}

LOWRANK_DEVICE void store4(float* to, const float (&v)[4]) { store16(to, Pack<float>{{v[0], v[1], v[2], v[3]}}); }
LOWRANK_DEVICE void store4(__nv_bfloat16* to, const float (&v)[4]) {
  *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])};
}

template <class T>
LOWRANK_DEVICE void cross_entropy(const CrossEntropyArgs& args) {
  LOWRANK_SHARED(float, at_label, [1]);
  const int64_t row = blockIdx.x, vocab = args.vocab;
  const float* const z = args.logits + row * args.logits_ld;
  T* const grad = args.grad ? static_cast<T*>(args.grad) + row * args.grad_ld : nullptr;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t label = args.labels[row];
  if (label < 0 || label >= vocab) {
    if (thread == 0) args.loss[row] = 0;
    if (grad)
      for (int64_t col = thread; col < vocab; col += kThreads) grad[col] = from_float<T>(0);
    return;
  }

  const bool aligned = aligned16(z);
  float top = -kInfinity, sum = 0;
  for (int64_t col = 4 * thread; col < vocab; col += 4 * kThreads) {
    float v[4];
    load4(z, col, vocab, aligned, v);
    const float most = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));
    if (most > top) {
      sum *= expf(top - most);
      top = most;
    }
    if (top > -kInfinity) sum += (expf(v[0] - top) + expf(v[1] - top)) + (expf(v[2] - top) + expf(v[3] - top));
  }
  const float most = block_max(top);
  const double total = block_sum(top > -kInfinity ? static_cast<double>(sum) * expf(top - most) : 0.0);
  if (thread == 0) {
    const double log_total = most + log(total), of_label = z[label];
    args.loss[row] = static_cast<float>(log_total - of_label);
    at_label[0] = static_cast<float>(expm1(of_label - log_total) * args.weight);
  }
  if (!grad) return;
  __syncthreads();
  const float target = at_label[0], factor = static_cast<float>(args.weight / total);
  const bool stores_aligned = aligned16(grad);
  for (int64_t begin = 0; begin < vocab; begin += kPiece) {
    float v[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t col = begin + 4 * (half * kThreads + thread);
      load4(z, col, vocab, aligned, v[half]);
#pragma unroll
      for (int i = 0; i < 4; ++i) v[half][i] = col + i == label ? target : expf(v[half][i] - most) * factor;
    }
    __syncthreads();  // the gradients of this piece lie over logits of this piece and of those before
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t col = begin + 4 * (half * kThreads + thread);
      if (stores_aligned && col + 4 <= vocab) {
        store4(grad + col, v[half]);
        continue;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (col + i < vocab) grad[col + i] = from_float<T>(v[half][i]);
    }
  }
}

}  // namespace

LOWRANK_KERNEL(cross_entropy_f32, CrossEntropyArgs, 512, 2) { cross_entropy<float>(args); }
LOWRANK_KERNEL(cross_entropy_bf16, CrossEntropyArgs, 512, 2) { cross_entropy<__nv_bfloat16>(args); }

}  // namespace lowrank::cuda
