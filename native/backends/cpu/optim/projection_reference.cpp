#include <algorithm>
#include <cmath>

#include "backends/cpu/ops_common.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kLine = 64;  // bytes: threads share no cache line of their workspace

// ---- projection

constexpr double kRidge = 1e-8;  // keeps the Gram matrix invertible when rows of A depend on each other

/// Lower Cholesky factor of A A^T + kRidge I, [rank, rank], in place of its lower half.
void gram_factor(const Cpu& cpu, const ProjectGradient& k, double* gram) {
  const int64_t rank = k.rank;
  reference(cpu, Gram{rank, k.cols, k.a, k.cols, address_of(gram)});
  for (int64_t i = 0; i < rank; ++i) gram[i * rank + i] += kRidge;
  for (int64_t j = 0; j < rank; ++j) {
    for (int64_t i = j; i < rank; ++i) {
      double sum = gram[i * rank + j];
      for (int64_t c = 0; c < j; ++c) sum -= gram[i * rank + c] * gram[j * rank + c];
      // A row of A spanned by the others leaves only a rounding error, of either sign.
      if (i == j)
        gram[i * rank + i] = std::sqrt(std::max(sum, kRidge));
      else
        gram[i * rank + j] = sum / gram[j * rank + j];
    }
  }
}

/// g <- g (L L^T)^-1 gain for one row [rank], by way of `row`.
void solve(const double* factor, int64_t rank, double gain, double* row, float* g) {
  for (int64_t j = 0; j < rank; ++j) {
    double sum = gain * g[j];
    for (int64_t c = 0; c < j; ++c) sum -= factor[j * rank + c] * row[c];
    row[j] = sum / factor[j * rank + j];
  }
  for (int64_t j = rank - 1; j >= 0; --j) {
    double sum = row[j];
    for (int64_t c = j + 1; c < rank; ++c) sum -= factor[c * rank + j] * row[c];
    row[j] = sum / factor[j * rank + j];
  }
  for (int64_t j = 0; j < rank; ++j) g[j] = static_cast<float>(row[j]);
}

int64_t row_bytes(const ProjectGradient& k) { return round_up(k.rank * 8, kLine); }

// ---- orthogonality

/// gradient += weight d||X^T X - I||_F / dX for X [rows, rank]; `room` has rank (rank + 1) numbers.
void add_orthogonal(int64_t rows, int64_t rank, const float* x, double weight, double* room, float* gradient) {
  double *const p = room, *const row = room + rank * rank;  // p = X^T X - I
  std::fill_n(p, rank * rank, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < rank; ++k) row[k] = x[i * rank + k];
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t j = 0; j < rank; ++j) p[k * rank + j] += row[k] * row[j];
  }
  double squares = 0;
  for (int64_t k = 0; k < rank; ++k) p[k * rank + k] -= 1;
  for (int64_t i = 0; i < rank * rank; ++i) squares += p[i] * p[i];
  if (squares == 0) return;
  const double factor = 2 * weight / std::sqrt(squares);
  for (int64_t i = 0; i < rows; ++i) {
    std::fill_n(row, rank, 0.0);
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t j = 0; j < rank; ++j) row[j] += x[i * rank + k] * p[k * rank + j];
    for (int64_t j = 0; j < rank; ++j) gradient[i * rank + j] += static_cast<float>(factor * row[j]);
  }
}

/// Doubles of add_orthogonal, and X and its gradient turned.
int64_t piece_bytes(const OrthogonalPiece& piece) {
  const int64_t turned = piece.transposed ? 2 * piece.rows * piece.rank * 4 : 0;
  return round_up(piece.rank * (piece.rank + 1) * 8 + turned, kLine);
}

int64_t most_bytes(const Orthogonal& k) {
  int64_t most = 0;
  for (const OrthogonalPiece& piece : k.pieces) most = std::max(most, piece_bytes(piece));
  return most;
}

void add_orthogonal(const OrthogonalPiece& piece, std::byte* room) {
  const int64_t rows = piece.rows, rank = piece.rank;
  auto* const doubles = reinterpret_cast<double*>(room);
  const float* const x = host(piece.x);
  float* const gradient = host(piece.gradient);
  if (!piece.transposed) return add_orthogonal(rows, rank, x, piece.weight, doubles, gradient);
  auto* const turned = reinterpret_cast<float*>(doubles + rank * (rank + 1));
  float* const turned_gradient = turned + rows * rank;
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t i = 0; i < rows; ++i) turned[i * rank + k] = x[k * rows + i];
  std::fill_n(turned_gradient, rows * rank, 0.0f);
  add_orthogonal(rows, rank, turned, piece.weight, doubles, turned_gradient);
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t i = 0; i < rows; ++i) gradient[k * rows + i] += turned_gradient[i * rank + k];
}

}  // namespace

int64_t workspace(const ProjectGradient& k, int threads) {
  return round_up(k.rank * k.rank * 8, kLine) + threads * row_bytes(k);
}

void reference(const Cpu& cpu, const ProjectGradient& k) {
  constexpr int64_t kRows = 64;  // at a time
  auto* const factor = reinterpret_cast<double*>(cpu.room);
  std::byte* const rows = cpu.room + round_up(k.rank * k.rank * 8, kLine);
  gram_factor(cpu, k, factor);
  const double gain = 1 / (double{k.scale} * k.scale);
  float* const gradient = host(k.gradient);
  for_units(cpu.pool, (k.rows + kRows - 1) / kRows, [&](int thread, int64_t unit) {
    auto* const row = reinterpret_cast<double*>(rows + thread * row_bytes(k));
    for (int64_t i = unit * kRows; i < std::min(k.rows, (unit + 1) * kRows); ++i)
      solve(factor, k.rank, gain, row, gradient + i * k.rank);
  });
}

int64_t workspace(const Orthogonal& k, int threads) { return threads * most_bytes(k); }

void reference(const Cpu& cpu, const Orthogonal& k) {
  const int64_t bytes = most_bytes(k);
  for_units(cpu.pool, static_cast<int64_t>(k.pieces.size()),
            [&](int thread, int64_t unit) { add_orthogonal(k.pieces[unit], cpu.room + thread * bytes); });
}

}  // namespace lowrank::cpu
