// Gradients that are projected or drawn to orthogonality, in double.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// gradient [rows, rank] <- gradient (L L^T)^-1 gain, with the Gram matrix of A [rank, cols] in `factor`, then L.
struct ProjectGradientArgs {
  int64_t rank, cols, rows;
  const float* a;
  double gain;
  float* gradient;
  double* factor;  // [rank, rank]
  double* solved;  // [rank, rows]
};

struct OrthogonalPieceArgs {
  int64_t rows, rank;
  int32_t transposed;
  float weight;
  const float* x;
  float* gradient;
  double* product;  // X^T X - I, [rank, rank]
};
struct OrthogonalArgs {
  OrthogonalPieceArgs pieces[64];
};
inline constexpr int kMostOrthogonalPieces = 64, kProjectThreads = 256;

#define LOWRANK_PROJECTION_KERNELS(X)             \
  X(project_gradient_gram, ProjectGradientArgs)   \
  X(project_gradient_factor, ProjectGradientArgs) \
  X(project_gradient_solve, ProjectGradientArgs)  \
  X(orthogonal_product, OrthogonalArgs)           \
  X(orthogonal_add, OrthogonalArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_PROJECTION_KERNELS)

}  // namespace lowrank::cuda
