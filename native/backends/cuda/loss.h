// Kernels of the loss.
#pragma once

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

// By the type of the gradient.
#define LOWRANK_LOSS_KERNELS(X)          \
  X(cross_entropy_f32, CrossEntropyArgs) \
  X(cross_entropy_bf16, CrossEntropyArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_LOSS_KERNELS)

}  // namespace lowrank::cuda
