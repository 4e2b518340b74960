#include "backends/cpu/optim.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/device.h"
#include "backends/cpu/ops_common.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kLine = 64;  // bytes: threads share no cache line of their workspace

// ---- updates of single elements

/// Work of one thread in an update: a stretch of a piece, or pieces that take turns in the same memory.
struct Share {
  size_t first, last;
  int64_t begin, count;
};

std::vector<Share> shares_of(std::span<const UpdatePiece> pieces) {
  constexpr int64_t kMost = 32768;
  static_assert(kMost % kDynamicBlock == 0 && kMomentBlock == kDynamicBlock);
  std::vector<Share> shares;
  for (size_t i = 0; i < pieces.size();) {
    const UpdatePiece& piece = pieces[i];
    size_t last = i + 1;
    if (piece.stride == 1) {
      for (int64_t begin = 0; begin < piece.count; begin += kMost)
        shares.push_back({i, last, begin, std::min(kMost, piece.count - begin)});
    } else {
      const auto takes_turns = [&](const UpdatePiece& next) {
        const int64_t apart = host(next.p) - host(piece.p);
        return next.stride == piece.stride && next.count == piece.count && apart > 0 && apart < piece.stride;
      };
      while (last < pieces.size() && takes_turns(pieces[last])) ++last;
      shares.push_back({i, last, 0, piece.count});
    }
    i = last;
  }
  return shares;
}

/// Numbers of state in memory: floats, or codes.
struct State {
  float* floats;
  DynamicCodes codes;
};

State state_from(const Moments& moments, int64_t first) {
  return {moments.floats ? host(moments.floats) + first : nullptr,
          moments.codes ? DynamicCodes{host(moments.codes), host(moments.absmax)}.from(first) : DynamicCodes{}};
}

/// Elements that lie apart are updated side by side, some at a time.
template <class Rule>
void update_apart(const UpdatePiece& piece, const Rule& rule) {
  constexpr int64_t kSome = 512;
  float side_by_side[4][kSome];
  float* const arrays[] = {host(piece.gradient), host(piece.p), host(piece.m.floats), host(piece.v.floats)};
  for (int64_t begin = 0; begin < piece.count; begin += kSome) {
    const int64_t count = std::min(kSome, piece.count - begin);
    for (int k = 0; k < 4; ++k)
      for (int64_t i = 0; i < count && arrays[k] != nullptr; ++i)
        side_by_side[k][i] = arrays[k][(begin + i) * piece.stride];
    const auto state = [&](int k) { return State{arrays[k] == nullptr ? nullptr : side_by_side[k], {}}; };
    rule(piece, count, side_by_side[0], state(2), state(3), side_by_side[1]);
    for (int k = 1; k < 4; ++k)
      for (int64_t i = 0; i < count && arrays[k] != nullptr; ++i)
        arrays[k][(begin + i) * piece.stride] = side_by_side[k][i];
  }
}

/// Calls rule(piece, count, gradient, m, v, p) for stretches of all pieces.
template <class Rule>
void update_all(Pool& pool, std::span<const UpdatePiece> pieces, const Rule& rule) {
  const std::vector<Share> shares = shares_of(pieces);
  pool.for_range(static_cast<int64_t>(shares.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t at = from; at < to; ++at) {
      const auto [first, last, begin, count] = shares[at];
      for (size_t i = first; i < last; ++i) {
        const UpdatePiece& piece = pieces[i];
        if (piece.stride != 1)
          update_apart(piece, rule);
        else
          rule(piece, count, host(piece.gradient) + begin, state_from(piece.m, begin), state_from(piece.v, begin),
               host(piece.p) + begin);
      }
    }
  });
}

// ---- projection

constexpr double kRidge = 1e-8;  // keeps the Gram matrix invertible when rows of A depend on each other

/// Lower Cholesky factor of A A^T + kRidge I, [rank, rank], in place of its lower half.
void gram_factor(Pool& pool, const float* a, int64_t rank, int64_t cols, double* gram) {
  reference({pool, nullptr}, Gram{rank, cols, address_of(a), cols, address_of(gram)});
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

void update(Pool& pool, const OpKernels& ops, const lowrank::AdamW& k) {
  update_all(pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State& v, float* p) {
               const AdamW adamw{piece.learning_rate, k.beta1,    k.beta2,     k.epsilon,
                                 piece.weight_decay,  piece.step, k.grad_scale};
               if (m.floats != nullptr)
                 ops.adamw(count, adamw, g, m.floats, v.floats, p);
               else
                 ops.adamw_8bit(count, adamw, g, m.codes, v.codes, p);
             });
}

void update(Pool& pool, const OpKernels& ops, const lowrank::Sgd& k) {
  update_all(pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               ops.sgd(count, {piece.learning_rate, k.momentum, piece.weight_decay, k.grad_scale}, g, m.floats, p);
             });
}

void update(Pool& pool, const OpKernels& ops, const lowrank::Lion& k) {
  update_all(pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               const Lion lion{piece.learning_rate, k.beta1, k.beta2, piece.weight_decay, k.grad_scale};
               if (m.floats != nullptr)
                 ops.lion(count, lion, g, m.floats, p);
               else
                 ops.lion_8bit(count, lion, g, m.codes, p);
             });
}

int64_t project_gradient_workspace(const ProjectGradient& k, int threads) {
  return round_up(k.rank * k.rank * 8, kLine) + threads * row_bytes(k);
}

void project_gradient(Pool& pool, const ProjectGradient& k, std::byte* room) {
  constexpr int64_t kRows = 64;  // at a time
  auto* const factor = reinterpret_cast<double*>(room);
  std::byte* const rows = room + round_up(k.rank * k.rank * 8, kLine);
  gram_factor(pool, host(k.a), k.rank, k.cols, factor);
  const double gain = 1 / (double{k.scale} * k.scale);
  float* const gradient = host(k.gradient);
  for_units(pool, (k.rows + kRows - 1) / kRows, [&](int thread, int64_t unit) {
    auto* const row = reinterpret_cast<double*>(rows + thread * row_bytes(k));
    for (int64_t i = unit * kRows; i < std::min(k.rows, (unit + 1) * kRows); ++i)
      solve(factor, k.rank, gain, row, gradient + i * k.rank);
  });
}

int64_t orthogonal_workspace(const Orthogonal& k, int threads) { return threads * most_bytes(k); }

void orthogonal(Pool& pool, const Orthogonal& k, std::byte* room) {
  const int64_t bytes = most_bytes(k);
  for_units(pool, static_cast<int64_t>(k.pieces.size()),
            [&](int thread, int64_t unit) { add_orthogonal(k.pieces[unit], room + thread * bytes); });
}

void follow_importances(Pool& pool, const FollowImportances& k) {
  const float *const value = host(k.value), *const gradient = host(k.gradient);
  float *const sensitivity = host(k.sensitivity), *const uncertainty = host(k.uncertainty);
  const float b1 = k.beta1, b2 = k.beta2, scale = k.grad_scale;
  pool.for_range(k.count, 16384, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float importance = std::fabs(value[i] * (scale * gradient[i]));
      sensitivity[i] = b1 * sensitivity[i] + (1 - b1) * importance;
      uncertainty[i] = b2 * uncertainty[i] + (1 - b2) * std::fabs(importance - sensitivity[i]);
    }
  });
}

}  // namespace lowrank::cpu
