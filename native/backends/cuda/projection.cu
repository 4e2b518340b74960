#include "device.cuh"
#include "projection.h"

namespace lowrank::cuda {
namespace {

constexpr double kRidge = 1e-8;  // keeps the Gram matrix invertible when rows of A depend on each other

LOWRANK_DEVICE int64_t element() { return static_cast<int64_t>(blockIdx.x) * kProjectThreads + threadIdx.x; }

/// Sum over i of x[i * step] y[i * step], by a block.
LOWRANK_DEVICE double dot(const float* x, const float* y, int64_t count, int64_t step) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kProjectThreads) sum += static_cast<double>(x[i * step]) * y[i * step];
  return block_sum(sum);
}

}  // namespace

/// A block an element, row blockIdx.x and column blockIdx.y; the upper half is not used.
LOWRANK_KERNEL(project_gradient_gram, ProjectGradientArgs, kProjectThreads, 4) {
  const int64_t i = blockIdx.x, j = blockIdx.y;
  if (j > i) return;
  const double sum = dot(args.a + i * args.cols, args.a + j * args.cols, args.cols, 1);
  if (threadIdx.x == 0) args.factor[i * args.rank + j] = sum + (i == j ? kRidge : 0);
}

/// The lower Cholesky factor, in place, by one block. A row of A that others span leaves rounding only, of either sign.
LOWRANK_KERNEL(project_gradient_factor, ProjectGradientArgs, kProjectThreads, 1) {
  double* const l = args.factor;
  for (int64_t j = 0; j < args.rank; ++j) {
    const double* const row_j = l + j * args.rank;
    for (int64_t i = j + threadIdx.x; i < args.rank; i += kProjectThreads) {
      double* const row = l + i * args.rank;
      double sum = row[j];
      for (int64_t c = 0; c < j; ++c) sum -= row[c] * row_j[c];
      row[j] = i == j ? sqrt(fmax(sum, kRidge)) : sum;
    }
    __syncthreads();
    for (int64_t i = j + 1 + threadIdx.x; i < args.rank; i += kProjectThreads) l[i * args.rank + j] /= row_j[j];
    __syncthreads();
  }
}

/// A thread a row.
LOWRANK_KERNEL(project_gradient_solve, ProjectGradientArgs, kProjectThreads, 4) {
  const int64_t row = element();
  if (row >= args.rows) return;
  const double* const l = args.factor;
  double* const x = args.solved + row;
  float* const g = args.gradient + row * args.rank;
  for (int64_t j = 0; j < args.rank; ++j) {
    double sum = args.gain * g[j];
    for (int64_t c = 0; c < j; ++c) sum -= l[j * args.rank + c] * x[c * args.rows];
    x[j * args.rows] = sum / l[j * args.rank + j];
  }
  for (int64_t j = args.rank - 1; j >= 0; --j) {
    double sum = x[j * args.rows];
    for (int64_t c = j + 1; c < args.rank; ++c) sum -= l[c * args.rank + j] * x[c * args.rows];
    x[j * args.rows] = sum / l[j * args.rank + j];
    g[j] = static_cast<float>(x[j * args.rows]);
  }
}

/// Blocks: element of the product, piece.
LOWRANK_KERNEL(orthogonal_product, OrthogonalArgs, kProjectThreads, 4) {
  const OrthogonalPieceArgs& piece = args.pieces[blockIdx.y];
  const int64_t k = blockIdx.x / piece.rank, j = blockIdx.x % piece.rank;
  if (k >= piece.rank) return;
  const int64_t across = piece.transposed ? piece.rows : 1, along = piece.transposed ? 1 : piece.rank;
  const double sum = dot(piece.x + k * across, piece.x + j * across, piece.rows, along);
  if (threadIdx.x == 0) piece.product[k * piece.rank + j] = sum - (k == j ? 1 : 0);
}

/// Blocks: 256 elements of the gradient, piece.
LOWRANK_KERNEL(orthogonal_add, OrthogonalArgs, kProjectThreads, 4) {
  const OrthogonalPieceArgs& piece = args.pieces[blockIdx.y];
  const int64_t rank = piece.rank, count = piece.rows * rank;
  if (static_cast<int64_t>(blockIdx.x) * kProjectThreads >= count) return;
  double squares = 0;
  for (int64_t i = threadIdx.x; i < rank * rank; i += kProjectThreads) squares += piece.product[i] * piece.product[i];
  squares = block_sum(squares);
  const int64_t at = element();
  if (squares == 0 || at >= count) return;
  const int64_t row = piece.transposed ? at % piece.rows : at / rank,
                j = piece.transposed ? at / piece.rows : at % rank;
  const float* const x = piece.transposed ? piece.x + row : piece.x + row * rank;
  const int64_t step = piece.transposed ? piece.rows : 1;
  double sum = 0;
  for (int64_t k = 0; k < rank; ++k) sum += x[k * step] * piece.product[k * rank + j];
  piece.gradient[at] += static_cast<float>(2 * static_cast<double>(piece.weight) / sqrt(squares) * sum);
}

}  // namespace lowrank::cuda
