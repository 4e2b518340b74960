// The loss of rows of logits and its gradient: a row is read twice, or once if its log-sum-exp is known, a block each.
#include "kernel.h"

namespace lowrank::cuda {

struct CrossEntropyArgs {
  int64_t rows, vocab;
  const float* logits;
  int64_t logits_ld;
  const int32_t* labels;
  const float* weights;  // one per row, or null for `weight`
  float weight;
  float inverse_temperature, smoothing;
  int32_t lse_known;  // read, and no losses are written
  float* lse;         // or null
  float* loss;
  void* grad;  // may be the logits, rows starting at the same bytes, or null
  int64_t grad_ld;
};

struct LabelHitsArgs {
  int64_t rows, vocab;
  const float* logits;
  int64_t logits_ld;
  const int32_t* labels;
  float* hits;
};

inline constexpr int kLossThreads = 512;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {
namespace {

constexpr int kPiece = 2 * 4 * kLossThreads;  // columns whose gradients wait for the logits below them to be read

/// A row of logits, which are multiplied by `scale` as they are read.
struct Row {
  const float* z;
  int64_t vocab;
  float scale;
  bool aligned;
};

/// Four neighbors, those beyond the vocabulary being minus infinity.
LOWRANK_DEVICE void load4(const Row& row, int64_t col, float (&v)[4]) {
  if (row.aligned && col + 4 <= row.vocab) {
    const Pack<float> pack = load16(row.z + col);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = pack.at[i] * row.scale;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = col + i < row.vocab ? row.z[col + i] * row.scale : -kInfinity;
}

LOWRANK_DEVICE void store4(float* to, const float (&v)[4]) { store16(to, Pack<float>{{v[0], v[1], v[2], v[3]}}); }
LOWRANK_DEVICE void store4(__nv_bfloat16* to, const float (&v)[4]) {
  *reinterpret_cast<uint2*>(to) = uint2{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3])};
}

/// The log-sum-exp is top + log(total).
struct RowSums {
  float top;
  double total, mean;
};

/// The mean only if it is wanted.
LOWRANK_DEVICE RowSums row_sums(const Row& row, bool wants_mean) {
  float top = -kInfinity, sum = 0, plain = 0;
  for (int64_t col = 4 * static_cast<int>(threadIdx.x); col < row.vocab; col += 4 * kLossThreads) {
    float v[4];
    load4(row, col, v);
    const float most = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));
    if (most > top) {
      sum *= expf(top - most);
      top = most;
    }
    if (top > -kInfinity) sum += (expf(v[0] - top) + expf(v[1] - top)) + (expf(v[2] - top) + expf(v[3] - top));
    if (!wants_mean) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) plain += col + i < row.vocab ? v[i] : 0.0f;
  }
  const float most = block_max(top);
  const double total = block_sum(top > -kInfinity ? static_cast<double>(sum) * expf(top - most) : 0.0);
  return {most, total, wants_mean ? block_sum(static_cast<double>(plain)) / static_cast<double>(row.vocab) : 0.0};
}

template <class T>
LOWRANK_DEVICE void cross_entropy(const CrossEntropyArgs& args) {
  LOWRANK_SHARED(float, at_label, [1]);
  const int64_t row = blockIdx.x, vocab = args.vocab;
  const float* const z = args.logits + row * args.logits_ld;
  T* const grad = args.grad ? static_cast<T*>(args.grad) + row * args.grad_ld : nullptr;
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t label = args.labels[row];
  const bool makes_loss = !args.lse_known;
  if (label < 0 || label >= vocab) {
    if (thread == 0 && makes_loss) {
      args.loss[row] = 0;
      if (args.lse) args.lse[row] = 0;
    }
    if (grad)
      for (int64_t col = thread; col < vocab; col += kLossThreads) grad[col] = from_float<T>(0);
    return;
  }

  const Row logits{z, vocab, args.inverse_temperature, aligned16(z)};
  const RowSums sums = makes_loss ? row_sums(logits, args.smoothing > 0) : RowSums{args.lse[row], 1, 0};
  const float weight = args.weights ? args.weights[row] : args.weight;
  const float each = args.smoothing / static_cast<float>(vocab) * weight;
  if (thread == 0) {
    const double lse = sums.top + log(sums.total), of_label = z[label] * args.inverse_temperature;
    if (makes_loss) {
      args.loss[row] = static_cast<float>(lse - of_label + args.smoothing * (of_label - sums.mean));
      if (args.lse) args.lse[row] = static_cast<float>(lse);
    }
    at_label[0] = static_cast<float>((expm1(of_label - lse) + args.smoothing) * weight - each);
  }
  if (!grad) return;
  __syncthreads();
  const float target = at_label[0], factor = static_cast<float>(weight / sums.total);
  const bool stores_aligned = aligned16(grad);
  for (int64_t begin = 0; begin < vocab; begin += kPiece) {
    float v[2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t col = begin + 4 * (half * kLossThreads + thread);
      load4(logits, col, v[half]);
#pragma unroll
      for (int i = 0; i < 4; ++i) v[half][i] = col + i == label ? target : expf(v[half][i] - sums.top) * factor - each;
    }
    __syncthreads();  // the gradients of this piece lie over logits of this piece and of those before
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t col = begin + 4 * (half * kLossThreads + thread);
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

LOWRANK_KERNEL(cross_entropy_f32, CrossEntropyArgs, kLossThreads, 2) { cross_entropy<float>(args); }
LOWRANK_KERNEL(cross_entropy_bf16, CrossEntropyArgs, kLossThreads, 2) { cross_entropy<__nv_bfloat16>(args); }
/// A logit that is not a number is never below.
LOWRANK_KERNEL(label_hits, LabelHitsArgs, kLossThreads, 2) {
  const int64_t row = blockIdx.x, vocab = args.vocab;
  const float* const z = args.logits + row * args.logits_ld;
  const int32_t label = args.labels[row];
  const bool counted = label >= 0 && label < vocab;
  const float of_label = counted ? z[label] : 0.0f;
  float beaten = counted ? 0.0f : 1.0f;
  for (int64_t col = threadIdx.x; counted && col < vocab; col += kLossThreads) {
    const float value = z[col];
    if (!(value < of_label) && (!(value <= of_label) || col < label)) beaten = 1;
  }
  beaten = block_max(beaten);
  if (threadIdx.x == 0) args.hits[row] = 1 - beaten;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

// By the type of the gradient.
constexpr auto cross_entropy_f32 = kernel_of<CrossEntropyArgs>("cross_entropy_f32");
constexpr auto cross_entropy_bf16 = kernel_of<CrossEntropyArgs>("cross_entropy_bf16");
constexpr auto label_hits = kernel_of<LabelHitsArgs>("label_hits");

}  // namespace

void run(Launcher& launcher, const CrossEntropy& k, Ptr<std::byte>) {
  const CrossEntropyArgs args{k.rows,
                              k.vocab,
                              device_pointer(k.logits.data.as<float>()),
                              k.logits.ld,
                              device_pointer(k.labels),
                              device_pointer(k.weights),
                              k.weight,
                              k.inverse_temperature,
                              k.smoothing,
                              k.lse_known,
                              device_pointer(k.lse),
                              device_pointer(k.loss),
                              device_pointer(k.grad.data),
                              k.grad.ld};
  launcher.launch(k.grad.dtype == DType::bf16 ? cross_entropy_bf16 : cross_entropy_f32, {k.rows}, kLossThreads, args);
}

void run(Launcher& launcher, const LabelHits& k, Ptr<std::byte>) {
  const LabelHitsArgs args{k.rows,
                           k.vocab,
                           device_pointer(k.logits.data.as<float>()),
                           k.logits.ld,
                           device_pointer(k.labels),
                           device_pointer(k.hits)};
  launcher.launch(label_hits, {k.rows}, kLossThreads, args);
}

}  // namespace lowrank::cuda

#endif
