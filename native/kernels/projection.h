// Gradients that are projected or drawn to orthogonality, in double.
#pragma once

#include <span>

#include "kernels/operands.h"

namespace lowrank {

/// gradient [rows, rank] <- gradient (A A^T + 1e-8 I)^-1 / scale^2 with A [rank, cols], in double: the change of B for
/// which scale B A is closest to the full gradient. LoRA-FA with corrected gradients, arXiv 2308.03303v2; PEFT's
/// create_lorafa_optimizer uses the same formula.
struct ProjectGradient {
  static constexpr const char* kName = "project_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t rank, cols;
  Ptr<float> a;
  int64_t rows;
  float scale;
  Ptr<float> gradient;
  void operands(Operands& see) const {
    see.reads(a, rank * cols);
    see.adds(gradient, rows * rank);
  }
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
  static constexpr bool kNeedsRoom = true;
  std::span<const OrthogonalPiece> pieces;
  void operands(Operands& see) const {
    for (const OrthogonalPiece& piece : pieces) {
      see.reads(piece.x, piece.rows * piece.rank);
      see.adds(piece.gradient, piece.rows * piece.rank);
    }
  }
};

}  // namespace lowrank
