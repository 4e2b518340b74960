#include "adapters/decompose.h"

#include <algorithm>
#include <cmath>

#include "adapters/adapter.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr int64_t kLeastBlock = 8;  // vectors of a block
constexpr int64_t kMostBlocks = 6;  // in the basis before a restart, which keeps two
constexpr double kResidual = 1e-6;  // of the largest singular value
constexpr double kGain = 1e-10;     // of the sum of squares of the wanted ones, from one restart to the next
constexpr double kNothing = 1e-14;  // of the matrix's norm: what rounding leaves of a vector that is spanned
constexpr int64_t kPiece = 64;      // columns that a thread takes at a time

/// Vectors as the rows of a matrix.
struct Rows {
  int64_t length = 0;
  std::vector<double> values = {};

  int64_t count() const { return length == 0 ? 0 : static_cast<int64_t>(values.size()) / length; }
  double* operator[](int64_t i) { return values.data() + i * length; }
  const double* operator[](int64_t i) const { return values.data() + i * length; }
  void append(const Rows& more) { values.insert(values.end(), more.values.begin(), more.values.end()); }
  Rows transposed() const {
    Rows out{count(), std::vector<double>(values.size())};
    for (int64_t i = 0; i < count(); ++i)
      for (int64_t j = 0; j < length; ++j) out.values[j * out.length + i] = values[i * length + j];
    return out;
  }
};

/// What is decomposed.
struct Source {
  const float* data;
  int64_t rows, cols;
};

double dot(const double* a, const double* b, int64_t count) {
  double sums[8] = {};  // several, so that it does not wait for one
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int64_t k = 0; k < 8; ++k) sums[k] += a[i + k] * b[i + k];
  double sum = 0;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const double one : sums) sum += one;
  return sum;
}

void add(double factor, const double* x, int64_t count, double* y) {
  for (int64_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

/// The same of four vectors at once.
void add(const double (&factor)[4], const double* const (&x)[4], int64_t count, double* y) {
  for (int64_t i = 0; i < count; ++i)
    y[i] += (factor[0] * x[0][i] + factor[1] * x[1][i]) + (factor[2] * x[2][i] + factor[3] * x[3][i]);
}

/// Sum over i < count of factors[i * stride] * x_i, x_i being row `begin` + i, to y.
void add_rows(const float* factors, int64_t stride, int64_t count, const Rows& x, int64_t begin, double* y) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const double factor[4] = {factors[i * stride], factors[(i + 1) * stride], factors[(i + 2) * stride],
                              factors[(i + 3) * stride]};
    const double* const row = x[begin + i];
    add(factor, {row, row + x.length, row + 2 * x.length, row + 3 * x.length}, x.length, y);
  }
  for (; i < count; ++i) add(factors[i * stride], x[begin + i], x.length, y);
}

/// W x for every row x of v.
Rows times(Pool& pool, const Source& w, const Rows& v) {
  const Rows turned = v.transposed();
  Rows out{v.count(), std::vector<double>(w.rows * v.count())};
  pool.for_range(w.rows, std::max<int64_t>(1, 32768 / w.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) add_rows(w.data + i * w.cols, 1, w.cols, turned, 0, out[i]);
  });
  return out.transposed();
}

/// W^T x for every row x of u.
Rows times_transposed(Pool& pool, const Source& w, const Rows& u) {
  if (u.count() == 0) return {w.cols};
  const Rows turned = u.transposed();
  Rows out{u.count(), std::vector<double>(w.cols * u.count())};
  constexpr int64_t kRows = 64;  // of W at a time, so that a piece of them stays in the cache
  pool.for_range(w.cols, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < w.rows; i += kRows)
      for (int64_t j = begin; j < end; ++j)
        add_rows(w.data + i * w.cols + j, w.cols, std::min(kRows, w.rows - i), turned, i, out[j]);
  });
  return out.transposed();
}

/// Takes from x what the rows of `basis` span, and adds its coordinates to `shares`.
void project_out(double* x, const Rows& basis, double* shares) {
  for (int64_t j = 0; j < basis.count(); ++j) {
    const double share = dot(basis[j], x, basis.length);
    add(-share, basis[j], basis.length, x);
    shares[j] += share;
  }
}

/// Makes the rows of `block` orthonormal, to those of `basis` as well, and leaves out those of which no more than
/// `least` remains. Returns what they were: coordinates [rows that were there, basis and rows that are left].
Rows orthonormalize(Pool& pool, Rows& block, const Rows& basis, double least) {
  const int64_t count = block.count(), known = basis.count(), length = block.length;
  Rows shares{known + count, std::vector<double>(count * (known + count))};
  const auto twice = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int pass = 0; pass < 2; ++pass) project_out(block[i], basis, shares[i]);
  };
  pool.for_range(count, 1, twice);
  Rows kept{length};
  for (int64_t i = 0; i < count; ++i) {
    double* const x = block[i];
    const double before = std::sqrt(dot(x, x, length));
    for (int pass = 0; pass < 2; ++pass) project_out(x, kept, shares[i] + known);
    double norm = std::sqrt(dot(x, x, length));
    if (norm < 0.1 * before) {  // what little is left has the rounding of the whole in it
      project_out(x, basis, shares[i]);
      project_out(x, kept, shares[i] + known);
      norm = std::sqrt(dot(x, x, length));
    }
    if (norm <= least) continue;
    shares[i][known + kept.count()] = norm;
    for (int64_t k = 0; k < length; ++k) x[k] /= norm;
    kept.values.insert(kept.values.end(), x, x + length);
  }
  block = std::move(kept);
  return shares;
}

/// L = X^T diag(values) Y of a small matrix, largest value first; X and Y have the vectors as rows.
struct Singular {
  std::vector<double> values;
  Rows x, y;
};

/// By one-sided Jacobi rotations of the rows.
Singular singular(Rows l) {
  const int64_t count = l.count();
  Rows x{count, std::vector<double>(count * count)};
  for (int64_t i = 0; i < count; ++i) x[i][i] = 1;
  bool turned = true;
  for (int sweep = 0; turned && sweep < 60; ++sweep) {
    turned = false;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = i + 1; j < count; ++j) {
        double *p = l[i], *q = l[j];
        double first = dot(p, p, l.length), second = dot(q, q, l.length);
        if (first < second) {
          std::swap_ranges(p, p + l.length, q);
          std::swap_ranges(x[i], x[i] + count, x[j]);
          std::swap(first, second);
        }
        const double both = dot(p, q, l.length);
        if (std::fabs(both) <= 1e-15 * std::sqrt(first * second)) continue;
        turned = true;
        const double zeta = (second - first) / (2 * both);
        const double tangent = std::copysign(1 / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta)), zeta);
        const double cosine = 1 / std::sqrt(1 + tangent * tangent), sine = cosine * tangent;
        const auto rotate = [&](double* a, double* b, int64_t length) {
          for (int64_t k = 0; k < length; ++k) {
            const double value = a[k];
            a[k] = cosine * value - sine * b[k];
            b[k] = sine * value + cosine * b[k];
          }
        };
        rotate(p, q, l.length);
        rotate(x[i], x[j], count);
      }
  }
  Singular out{{}, std::move(x), std::move(l)};
  for (int64_t i = 0; i < count; ++i) {
    double* const row = out.y[i];
    const double value = std::sqrt(dot(row, row, out.y.length));
    out.values.push_back(value);
    if (value > 0) std::for_each(row, row + out.y.length, [&](double& one) { one /= value; });
  }
  return out;
}

/// Rows [0, count) of a product: shares [., rows of x] times x.
Rows combine(Pool& pool, const Rows& shares, int64_t count, const Rows& x) {
  Rows out{x.length, std::vector<double>(count * x.length)};
  pool.for_range(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < x.count(); ++j) add(shares[i][j], x[j], x.length, out[i]);
  });
  return out;
}

/// Rows of different lengths, as they came, under each other.
Rows stacked(const std::vector<std::vector<double>>& rows, int64_t length) {
  Rows out{length};
  for (const std::vector<double>& row : rows) {
    out.values.insert(out.values.end(), row.begin(), row.begin() + std::min<int64_t>(length, row.size()));
    out.values.resize(out.values.size() + std::max<int64_t>(0, length - static_cast<int64_t>(row.size())));
  }
  return out;
}

double square_of(Pool& pool, const Source& w) {
  std::vector<double> sums(w.rows);
  pool.for_range(w.rows, std::max<int64_t>(1, 32768 / w.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < w.cols; ++j) sums[i] += double{w.data[i * w.cols + j]} * w.data[i * w.cols + j];
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return sum;
}

void check(const Source& w, int64_t rank) {
  if (rank < 1 || rank > std::min(w.rows, w.cols))
    fail("SHAPE", "a matrix of [", w.rows, ", ", w.cols, "] cannot be factored at rank ", rank, "; expected 1 to ",
         std::min(w.rows, w.cols));
}

}  // namespace

Decomposition largest_singular(Pool& pool, const float* data, int64_t rows, int64_t cols,
                               const SingularOptions& options) {
  const Source w{data, rows, cols};
  const int64_t rank = options.rank;
  check(w, rank);
  Decomposition factors{std::vector<float>(rank * cols), std::vector<float>(rows * rank), square_of(pool, w)};
  if (factors.square == 0) return factors;
  const int64_t width = std::min(std::max(rank, kLeastBlock), cols);
  const double least = kNothing * std::sqrt(factors.square);

  std::vector<float> drawn(width * cols);
  fill_normal(drawn.data(), width * cols, 1, options.seed, options.name);
  Rows block{cols, std::vector<double>(drawn.begin(), drawn.end())};
  orthonormalize(pool, block, Rows{cols}, least);

  // W V^T = Q^T L^T with orthonormal rows of V and Q: what W is between the two bases.
  Rows v{cols}, q{rows};
  std::vector<std::vector<double>> l;
  Singular found;
  double sum = 0;
  for (int64_t step = 1;; ++step) {
    Rows next = times(pool, w, block);
    v.append(block);
    const Rows shares = orthonormalize(pool, next, q, least);
    const int64_t known = q.count();
    q.append(next);
    for (int64_t i = 0; i < shares.count(); ++i) l.emplace_back(shares[i], shares[i] + q.count());
    block = times_transposed(pool, w, next);
    const Rows beyond = orthonormalize(pool, block, v, least);  // of W^T q, what V lacks
    const bool whole = block.count() == 0, last = step == options.blocks;
    if (!whole && !last && v.count() + block.count() <= kMostBlocks * width) continue;

    found = singular(stacked(l, q.count()));
    const double before = sum;
    sum = 0;
    double residual = 0;
    for (int64_t i = 0; i < std::min(rank, v.count()); ++i) {
      sum += found.values[i] * found.values[i];
      double square = 0;  // ||W^T u - sigma v||^2
      for (int64_t k = 0; k < block.count(); ++k) {
        double value = 0;
        for (int64_t j = 0; j < next.count(); ++j) value += found.y[i][known + j] * beyond[j][v.count() + k];
        square += value * value;
      }
      residual = std::max(residual, std::sqrt(square));
    }
    if (whole || last) break;
    if (options.blocks == 0 && (residual <= kResidual * found.values[0] || sum - before <= kGain * sum)) break;
    const int64_t best = std::min(2 * width, v.count());
    v = combine(pool, found.x, best, v);
    q = combine(pool, found.y, best, q);
    l.assign(best, {});
    for (int64_t i = 0; i < best; ++i) {
      l[i].resize(i + 1);
      l[i][i] = found.values[i];
    }
  }
  const int64_t there = std::min(rank, v.count());
  const Rows right = combine(pool, found.x, there, v), left = combine(pool, found.y, there, q);
  for (int64_t i = 0; i < there; ++i) {
    const double root = std::sqrt(found.values[i]);
    for (int64_t j = 0; j < cols; ++j) factors.a[i * cols + j] = static_cast<float>(root * right[i][j]);
    for (int64_t j = 0; j < rows; ++j) factors.b[j * rank + i] = static_cast<float>(root * left[i][j]);
  }
  factors.kept = sum;
  return factors;
}

Decomposition first_of_qr(Pool& pool, const float* data, int64_t rows, int64_t cols, int64_t rank) {
  const Source w{data, rows, cols};
  check(w, rank);
  Decomposition factors{std::vector<float>(rank * cols), std::vector<float>(rows * rank), square_of(pool, w)};
  Rows q{rows, std::vector<double>(rank * rows)};
  for (int64_t i = 0; i < rank; ++i)
    for (int64_t j = 0; j < rows; ++j) q[i][j] = data[j * cols + i];
  orthonormalize(pool, q, Rows{rows}, kNothing * std::sqrt(factors.square));
  const Rows r = times_transposed(pool, w, q);
  for (int64_t i = 0; i < q.count(); ++i) {
    for (int64_t j = 0; j < cols; ++j) factors.a[i * cols + j] = static_cast<float>(r[i][j]);
    for (int64_t j = 0; j < rows; ++j) factors.b[j * rank + i] = static_cast<float>(q[i][j]);
    factors.kept += dot(r[i], r[i], cols);
  }
  return factors;
}

}  // namespace lowrank
