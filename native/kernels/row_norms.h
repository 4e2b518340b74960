// Sums in double over rows of weights, of adapters, and of activations: what divides the rows of a linear whose adapter
// has a magnitude (DoRA, arXiv 2402.09353, eq. 5), without the matrix B A.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// out[i] = ||W_i||^2.
struct RowSquares {
  static constexpr const char* kName = "row_squares";
  Factor w;
  Ptr<double> out;
  void operands(Operands& see) const {
    see.reads(w);
    see.writes(out, w.rows);
  }
};

/// out [rank, rank] = A A^T.
struct Gram {
  static constexpr const char* kName = "gram";
  int64_t rank, cols;
  Ptr<float> a;
  int64_t ld;
  Ptr<double> out;
  void operands(Operands& see) const {
    see.reads(f32_matrix(a, ld), rank, cols);
    see.writes(out, rank * rank);
  }
};

/// out[i] = ||W_i + B_i A|| = sqrt(||W_i||^2 + 2 B_i (W A^T)_i + B_i (A A^T) B_i^T), from the squares of W, the
/// products A W^T [rank, rows], and the Gram matrix of A. Where B_i A takes away more than nine tenths of the row, the
/// difference of large numbers has lost its digits, and the row itself is formed. At least 1e-15, so that it divides.
struct AdaptedRowNorms {
  static constexpr const char* kName = "row_norms";
  Factor w;
  Ptr<float> a;
  int64_t a_ld;
  Ptr<float> b;
  int64_t rank;
  Ptr<double> squares;
  Ptr<float> products;
  Ptr<double> gram;
  Ptr<float> out;
  void operands(Operands& see) const {
    see.reads(f32_matrix(b, rank), w.rows, rank);
    see.reads(squares, w.rows);
    see.reads(products, rank * w.rows);
    see.reads(gram, rank * rank);
    see.writes(out, w.rows);
    see.may_read(w);
    see.may_read(f32_matrix(a, a_ld), rank, w.cols);
  }
};

/// moment [rank, rank] += sum over tokens of h h^T.
struct SecondMoment {
  static constexpr const char* kName = "second_moment";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens, rank;
  Matrix h;
  Ptr<double> moment;
  void operands(Operands& see) const {
    see.reads(h, tokens, rank);
    see.adds(moment, rank * rank);
  }
};

}  // namespace lowrank
