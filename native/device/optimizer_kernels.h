// The kernels of an optimizer's step, as values; see device/kernels.h. All numbers are f32 but where it says otherwise.
#pragma once

#include <cstdint>
#include <span>

#include "device/ptr.h"

namespace lowrank {

class Operands;

/// Numbers of an optimizer's state: fp32, or 8-bit codes with the largest magnitude of each block (quant/dynamic.h).
struct Moments {
  Ptr<float> floats = {};
  Ptr<uint8_t> codes = {};
  Ptr<float> absmax = {};

  void adds(Operands& see, int64_t count, int64_t stride) const;
};
/// Numbers of a block of 8-bit state.
inline constexpr int64_t kMomentBlock = 256;

/// Numbers that are updated alike: `count` elements of a parameter, `stride` apart, with their gradients and fp32 state
/// laid out the same; 8-bit state is of elements side by side.
struct UpdatePiece {
  int64_t count = 0, stride = 1;
  Ptr<float> p, gradient;
  Moments m, v;  // as the rule needs them; of 8-bit AdamW v holds the root
  float learning_rate = 0, weight_decay = 0;
  int64_t step = 1;  // updates of these numbers so far, this one included
};

/// torch.optim.AdamW, decoupled decay before the update.
struct AdamW {
  static constexpr const char* kName = "adamw";
  float beta1, beta2, epsilon;
  float grad_scale;  // multiplies every gradient before use (clipping)
  std::span<const UpdatePiece> pieces;
  void operands(Operands& see) const;
};
/// torch.optim.SGD without dampening: decay is part of the gradient. Without momentum m is null.
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
  double decay_rate = -0.8;      // of the means: at step t they keep 1 - t^decay_rate
  double epsilon = 1e-30;        // added to squares of gradients
  double least_scale = 1e-3;     // of a parameter's root mean square, where that scales the rate
  double clip_threshold = 1;     // root mean square that an update is scaled down to
  bool scale_parameter = false;  // the rate is a share of the parameter's root mean square
};
/// Adafactor (Shazeer and Stern 2018, arXiv 1804.04235): the second moments of a matrix p [rows, cols] are kept as the
/// means of its rows and columns alone, those of a vector one by one. The arithmetic is that of transformers' Adafactor
/// without momentum.
struct Adafactor {
  static constexpr const char* kName = "adafactor";
  AdafactorSettings settings;
  double learning_rate, weight_decay;
  int64_t step;       // from 1
  double grad_scale;  // as above
  int64_t rows, cols;
  Ptr<float> gradient;
  Ptr<float> row, column;  // of a matrix [rows] and [cols]; null for a vector
  Ptr<float> v;            // of a vector
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

/// gradient [rows, rank] <- gradient (A A^T + 1e-8 I)^-1 / scale^2 with A [rank, cols], in double: of all changes of B
/// the one that moves scale B A most nearly along the full gradient.
/// LoRA-FA with corrected gradients, arXiv 2308.03303v2; PEFT's create_lorafa_optimizer has the same formula.
struct ProjectGradient {
  static constexpr const char* kName = "project_gradient";
  int64_t rank, cols;
  Ptr<float> a;
  int64_t rows;
  float scale;
  Ptr<float> gradient;
  void operands(Operands& see) const;
};

/// X [rows, rank], or its transpose [rank, rows], and the gradient at it, laid out alike.
struct OrthogonalPiece {
  int64_t rows, rank;
  bool transposed;
  float weight;
  Ptr<float> x, gradient;
};
/// gradient += weight d||X^T X - I||_F / dX, in double; nothing where the norm is 0.
struct Orthogonal {
  static constexpr const char* kName = "orthogonal";
  std::span<const OrthogonalPiece> pieces;
  void operands(Operands& see) const;
};

/// Moving means of importances: with I = |value grad_scale gradient|, sensitivity <- beta1 sensitivity + (1 - beta1) I,
/// then uncertainty <- beta2 uncertainty + (1 - beta2) |I - sensitivity|.
struct FollowImportances {
  static constexpr const char* kName = "follow_importances";
  int64_t count;
  float beta1, beta2, grad_scale;
  Ptr<float> value, gradient, sensitivity, uncertainty;
  void operands(Operands& see) const;
};

}  // namespace lowrank
