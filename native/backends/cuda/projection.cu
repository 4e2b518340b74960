// Gradients that are projected or drawn to orthogonality, in double.
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

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

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

#else
#include "backends/cuda/runs.h"

#include <algorithm>

namespace lowrank::cuda {
namespace {

constexpr auto project_gradient_gram = kernel_of<ProjectGradientArgs>("project_gradient_gram");
constexpr auto project_gradient_factor = kernel_of<ProjectGradientArgs>("project_gradient_factor");
constexpr auto project_gradient_solve = kernel_of<ProjectGradientArgs>("project_gradient_solve");
// Their arguments are an array, and no repeated pass has them: none are compared.
constexpr KernelOf<OrthogonalArgs> orthogonal_product{"orthogonal_product"};
constexpr KernelOf<OrthogonalArgs> orthogonal_add{"orthogonal_add"};

}  // namespace

int64_t workspace(const Card&, const ProjectGradient& k) {
  return (k.rank * k.rank + k.rank * k.rows) * int64_t{sizeof(double)};
}

void run(Launcher& launcher, const ProjectGradient& k, Ptr<std::byte> workspace) {
  double* const factor = device_pointer(workspace.as<double>());
  const double gain = 1 / (double{k.scale} * k.scale);
  const ProjectGradientArgs args{
      k.rank, k.cols, k.rows, device_pointer(k.a), gain, device_pointer(k.gradient), factor, factor + k.rank * k.rank};
  launcher.launch(project_gradient_gram, {k.rank, k.rank}, kProjectThreads, args);
  launcher.launch(project_gradient_factor, {k.rank > 0}, kProjectThreads, args);
  launcher.launch(project_gradient_solve, blocks_of(k.rows, kProjectThreads), kProjectThreads, args);
}

int64_t workspace(const Card&, const Orthogonal& k) {
  int64_t doubles = 0;
  for (const OrthogonalPiece& piece : k.pieces) doubles += piece.rank * piece.rank;
  return doubles * int64_t{sizeof(double)};
}

void run(Launcher& launcher, const Orthogonal& k, Ptr<std::byte> workspace) {
  double* product = device_pointer(workspace.as<double>());
  for (size_t begin = 0; begin < k.pieces.size(); begin += kMostOrthogonalPieces) {
    const auto some = k.pieces.subspan(begin, std::min<size_t>(kMostOrthogonalPieces, k.pieces.size() - begin));
    OrthogonalArgs args{};
    int64_t rank = 0, elements = 0;  // the most
    for (size_t i = 0; i < some.size(); ++i) {
      const OrthogonalPiece& piece = some[i];
      args.pieces[i] = {piece.rows,
                        piece.rank,
                        piece.transposed,
                        piece.weight,
                        device_pointer(piece.x),
                        device_pointer(piece.gradient),
                        product};
      product += piece.rank * piece.rank;
      rank = std::max(rank, piece.rank);
      elements = std::max(elements, piece.rows * piece.rank);
    }
    const auto count = static_cast<int64_t>(some.size());
    launcher.launch(orthogonal_product, {rank * rank, count}, kProjectThreads, args);
    launcher.launch(orthogonal_add, {blocks_of(elements, kProjectThreads).x, count}, kProjectThreads, args);
  }
}

}  // namespace lowrank::cuda

#endif
