// Kernels of an optimizer step, as values; see kernels/kernels.h. All numbers are f32 unless noted.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ptr.h"

namespace lowrank {

class Operands;

/// Values of an optimizer's state: fp32, or 8-bit codes with the largest magnitude of each block (quant/dynamic.h).
struct Moments {
  Ptr<float> floats = {};
  Ptr<uint8_t> codes = {};
  Ptr<float> absmax = {};

  void adds(Operands& see, int64_t count, int64_t stride) const;
};
/// Elements per block of 8-bit state.
inline constexpr int64_t kMomentBlock = 256;

/// Elements that are updated alike: `count` elements of a parameter, `stride` apart, with gradients and fp32 state in
/// the same layout; 8-bit state requires contiguous elements.
struct UpdatePiece {
  int64_t count = 0, stride = 1;
  Ptr<float> p, gradient;
  Moments m, v;  // as needed by the rule; for 8-bit AdamW, v is the square root
  float learning_rate = 0, weight_decay = 0;
  int64_t step = 1;  // number of updates of these elements, including this one
};

/// torch.optim.AdamW, with decoupled weight decay before the update.
struct AdamW {
  static constexpr const char* kName = "adamw";
  float beta1, beta2, epsilon;
  float grad_scale;  // multiplies every gradient before use (clipping)
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const;
};
/// torch.optim.SGD without dampening: weight decay is part of the gradient. Without momentum m is null.
struct Sgd {
  static constexpr const char* kName = "sgd";
  float momentum, grad_scale;
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const;
};
/// Lion (Chen et al. 2023, arXiv 2302.06675): a step against the sign of beta1 m + (1 - beta1) gradient.
struct Lion {
  static constexpr const char* kName = "lion";
  float beta1, beta2, grad_scale;
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const;
};

struct AdafactorSettings {
  double decay_rate = -0.8;      // of the means: their decay at step t is 1 - t^decay_rate
  double epsilon = 1e-30;        // added to squared gradients
  double least_scale = 1e-3;     // minimum root mean square of a parameter, if it scales the rate
  double clip_threshold = 1;     // maximum root mean square of an update
  bool scale_parameter = false;  // the rate is relative to the parameter's root mean square
};
/// Adafactor (Shazeer and Stern 2018, arXiv 1804.04235): stores the second moments of a matrix p [rows, cols] only as
/// row and column means, and those of a vector individually. The arithmetic is that of transformers' Adafactor without
/// momentum.
struct Adafactor {
  static constexpr const char* kName = "adafactor";
  AdafactorSettings settings;
  double learning_rate, weight_decay;
  int64_t step;       // from 1
  double grad_scale;  // as above
  int64_t rows, cols;
  Ptr<float> gradient;
  Ptr<float> row, column;  // for a matrix [rows] and [cols]; null for a vector
  Ptr<float> v;            // for a vector
  Ptr<float> p;
  void operands(Operands& see) const;
};

/// out = sum over elements of x^2, in double.
struct SumOfSquares {
  static constexpr const char* kName = "sum_of_squares";
  int64_t count;
  Ptr<float> x;
  Ptr<double> out;
  void operands(Operands& see) const;
};

/// gradient [rows, rank] <- gradient (A A^T + 1e-8 I)^-1 / scale^2 with A [rank, cols], in double: the change of B for
/// which scale B A is closest to the full gradient. LoRA-FA with corrected gradients, arXiv 2308.03303v2; PEFT's
/// create_lorafa_optimizer uses the same formula.
struct ProjectGradient {
  static constexpr const char* kName = "project_gradient";
  int64_t rank, cols;
  Ptr<float> a;
  int64_t rows;
  float scale;
  Ptr<float> gradient;
  void operands(Operands& see) const;
};

/// X [rows, rank], or its transpose [rank, rows], and its gradient in the same layout.
struct OrthogonalPiece {
  int64_t rows, rank;
  bool transposed;
  float weight;
  Ptr<float> x, gradient;
};
/// gradient += weight d||X^T X - I||_F / dX, in double; unchanged if the norm is 0.
struct Orthogonal {
  static constexpr const char* kName = "orthogonal";
  std::span<const OrthogonalPiece> pieces;
  void operands(Operands& see) const;
};

/// Moving averages of importances: with I = |value grad_scale gradient|, sensitivity <- beta1 sensitivity + (1 - beta1)
/// I, then uncertainty <- beta2 uncertainty + (1 - beta2) |I - sensitivity|.
struct FollowImportances {
  static constexpr const char* kName = "follow_importances";
  int64_t count;
  float beta1, beta2, grad_scale;
  Ptr<float> value, gradient, sensitivity, uncertainty;
  void operands(Operands& see) const;
};

}  // namespace lowrank
