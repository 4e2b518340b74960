// Optimizers' updates of single elements, and moving averages of their importance. All numbers are f32 unless noted.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/operands.h"

namespace lowrank {

/// Elements per block of 8-bit state.
inline constexpr int64_t kMomentBlock = 256;
/// Values of an optimizer's state: fp32, or 8-bit codes with the largest magnitude of each block (quant/dynamic.h).
struct Moments {
  Ptr<float> floats = {};
  Ptr<uint8_t> codes = {};
  Ptr<float> absmax = {};

  void adds(Operands& see, int64_t count, int64_t stride) const {
    see.adds(f32_matrix(floats, stride), count, 1);
    see.adds(codes, count);
    see.adds(absmax, (count + kMomentBlock - 1) / kMomentBlock);
  }
};

/// Elements that are updated alike: `count` elements of a parameter, `stride` apart, with gradients and fp32 state in
/// the same layout; 8-bit state requires contiguous elements.
struct UpdatePiece {
  int64_t count = 0, stride = 1;
  Ptr<float> p, gradient;
  Moments m, v;  // as needed by the rule; for 8-bit AdamW, v is the square root
  float learning_rate = 0, weight_decay = 0;
  int64_t step = 1;  // number of updates of these elements, including this one

  void operands(Operands& see) const {
    see.reads(f32_matrix(gradient, stride), count, 1);
    see.adds(f32_matrix(p, stride), count, 1);
    m.adds(see, count, stride);
    v.adds(see, count, stride);
  }
};

/// torch.optim.AdamW, with decoupled weight decay before the update.
struct AdamW {
  static constexpr const char* kName = "adamw";
  float beta1, beta2, epsilon;
  float grad_scale;  // multiplies every gradient before use (clipping)
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const {
    for (const UpdatePiece& piece : pieces) piece.operands(see);
  }
};

/// torch.optim.SGD without dampening: weight decay is part of the gradient. Without momentum m is null.
struct Sgd {
  static constexpr const char* kName = "sgd";
  float momentum, grad_scale;
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const {
    for (const UpdatePiece& piece : pieces) piece.operands(see);
  }
};

/// Lion (Chen et al. 2023, arXiv 2302.06675): a step against the sign of beta1 m + (1 - beta1) gradient.
struct Lion {
  static constexpr const char* kName = "lion";
  float beta1, beta2, grad_scale;
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const {
    for (const UpdatePiece& piece : pieces) piece.operands(see);
  }
};

/// Moving averages of importances: with I = |value grad_scale gradient|, sensitivity <- beta1 sensitivity + (1 - beta1)
/// I, then uncertainty <- beta2 uncertainty + (1 - beta2) |I - sensitivity|.
struct FollowImportances {
  static constexpr const char* kName = "follow_importances";
  int64_t count;
  float beta1, beta2, grad_scale;
  Ptr<float> value, gradient, sensitivity, uncertainty;
  void operands(Operands& see) const {
    see.reads(value, count);
    see.reads(gradient, count);
    see.adds(sensitivity, count);
    see.adds(uncertainty, count);
  }
};

}  // namespace lowrank
