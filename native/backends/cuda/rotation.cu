// Rotations of blocks of columns: products of strided matrices, and the matrices that they are made from.
#include "kernel.h"

namespace lowrank::cuda {

/// out [blocks, size, size] = factor Q + diagonal I, Q being skew-symmetric with the upper triangles `skew`.
struct SkewArgs {
  int64_t blocks, size;
  const float* skew;
  float factor, diagonal;
  float* out;
};
/// dskew += the gradients of the upper triangles from those at Q.
struct SkewGradientArgs {
  int64_t blocks, size;
  const float* dq;
  float* dskew;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {

LOWRANK_KERNEL(skew_matrix, SkewArgs, 256, 4) {
  const int64_t at = thread_of_grid(), n = args.size;
  if (at >= args.blocks * n * n) return;
  const int64_t block = at / (n * n), i = at / n % n, j = at % n;
  const int64_t low = min(i, j), high = max(i, j);
  float value = args.diagonal;
  if (i != j) {
    const float upper = args.skew[block * (n * (n - 1) / 2) + low * n - low * (low + 1) / 2 + high - low - 1];
    value = args.factor * (i < j ? upper : -upper);
  }
  args.out[at] = value;
}

LOWRANK_KERNEL(skew_gradient, SkewGradientArgs, 256, 4) {
  const int64_t at = thread_of_grid(), n = args.size;
  if (at >= args.blocks * n * n) return;
  const int64_t block = at / (n * n), i = at / n % n, j = at % n;
  if (i >= j) return;
  const float change = args.dq[at] - args.dq[(block * n + j) * n + i];
  args.dskew[block * (n * (n - 1) / 2) + i * n - i * (i + 1) / 2 + j - i - 1] += change;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <utility>

#include "backends/cuda/strided.h"

namespace lowrank::cuda {
namespace {

constexpr auto skew_matrix = kernel_of<SkewArgs>("skew_matrix");
constexpr auto skew_gradient = kernel_of<SkewGradientArgs>("skew_gradient");

/// Bytes of a matrix for each block.
int64_t matrices_bytes(const Blocks& shape) { return round_up(shape.blocks * shape.elements() * 4, 256); }

/// The matrices of all blocks, as rows or transposed.
Strided matrices(const Blocks& shape, Ptr<float> data, bool transposed = false) {
  Strided s = strided(data);
  s.batch = shape.elements();
  s.high = transposed ? 1 : shape.size;
  s.inner = transposed ? shape.size : 1;
  return s;
}

/// out = a b (+ addend) + diagonal I of each block; `b` as rows of the right factor, transposed.
void multiply_blocks(Launcher& launcher, const Blocks& shape, const Strided& a, const Strided& b, Ptr<float> out,
                     float diagonal, Ptr<float> addend = {}) {
  StridedProductArgs args{};
  args.batches = shape.blocks;
  args.m = args.n = args.inner = shape.size;
  args.outer = 1;
  args.a = a;
  args.b = b;
  args.out = matrices(shape, out);
  args.addend = matrices(shape, addend);
  args.alpha = 1;
  args.diagonal = diagonal;
  multiply(launcher, args);
}

/// out = factor Q + diagonal I.
void make_skew(Launcher& launcher, const Blocks& shape, Ptr<float> skew, float factor, float diagonal, Ptr<float> out) {
  const SkewArgs args{shape.blocks, shape.size, device_pointer(skew), factor, diagonal, device_pointer(out)};
  launch_elements(launcher, skew_matrix, shape.blocks * shape.elements(), args);
}

/// Columns of each block of an activation as the matrix of a product, rows being tokens.
Strided columns(const Blocks& shape, const Matrix& x) {
  Strided s = strided(x);
  s.batch = shape.size;
  s.high = x.ld;
  s.inner = 1;
  return s;
}

}  // namespace

int64_t workspace(const Card&, const CayleyNeumann& k) { return 3 * matrices_bytes(k.shape); }

/// By Horner's rule: Q (c_1 I + Q (c_2 I + ...)).
void run(Launcher& launcher, const CayleyNeumann& k, Ptr<std::byte> workspace) {
  const int degree = cayley_degree(k.terms);
  const float sign = k.inverse ? -1.0f : 1.0f, whole = k.whole ? 1.0f : 0.0f;
  if (degree < 2)
    return make_skew(launcher, k.shape, k.skew, degree == 0 ? 0 : sign * cayley_factor(1, k.terms), whole, k.out);
  const int64_t room = matrices_bytes(k.shape);
  const Ptr<float> q = workspace.as<float>();
  Ptr<float> sum = (workspace + room).as<float>(), next = (workspace + 2 * room).as<float>();
  make_skew(launcher, k.shape, k.skew, sign, 0, q);
  make_skew(launcher, k.shape, k.skew, sign * cayley_factor(degree, k.terms), cayley_factor(degree - 1, k.terms), sum);
  for (int i = degree - 2; i >= 0; --i) {
    const Ptr<float> to = i == 0 ? k.out : next;
    multiply_blocks(launcher, k.shape, matrices(k.shape, q), matrices(k.shape, sum, true), to,
                    i == 0 ? whole : cayley_factor(i, k.terms));
    std::swap(sum, next);
  }
}

int64_t workspace(const Card&, const CayleyNeumannBackward& k) {
  return (4 + cayley_degree(k.terms)) * matrices_bytes(k.shape);
}

/// With P_m = c_m I and P_i = c_i I + Q P_(i+1), D is Q P_1. Going back, dQ is the sum of dP_(i-1) P_i^T with dP_0 = g
/// and dP_i = Q^T dP_(i-1).
void run(Launcher& launcher, const CayleyNeumannBackward& k, Ptr<std::byte> workspace) {
  const int degree = cayley_degree(k.terms);
  if (degree == 0) return;
  const Blocks& shape = k.shape;
  const auto room = [&](int i) { return (workspace + i * matrices_bytes(shape)).as<float>(); };
  const Ptr<float> q = room(0), dq = room(1);
  const auto power = [&](int i) { return room(3 + i); };
  make_skew(launcher, shape, k.skew, 1, 0, q);
  make_skew(launcher, shape, k.skew, 0, cayley_factor(degree, k.terms), power(degree));
  for (int i = degree - 1; i > 0; --i)
    multiply_blocks(launcher, shape, matrices(shape, q), matrices(shape, power(i + 1), true), power(i),
                    cayley_factor(i, k.terms));
  Ptr<float> dp = k.g;
  for (int i = 1; i <= degree; ++i) {
    multiply_blocks(launcher, shape, matrices(shape, dp), matrices(shape, power(i)), dq, 0, i > 1 ? dq : Ptr<float>());
    if (i == degree) break;
    const Ptr<float> next = room(2 + i % 2);
    multiply_blocks(launcher, shape, matrices(shape, q, true), matrices(shape, dp, true), next, 0);
    dp = next;
  }
  launch_elements(launcher, skew_gradient, shape.blocks * shape.elements(),
                  {shape.blocks, shape.size, device_pointer(dq), device_pointer(k.dskew)});
}

int64_t workspace(const Card&, const Rotate&) { return 0; }

void run(Launcher& launcher, const Rotate& k, Ptr<std::byte>) {
  StridedProductArgs args{};
  args.batches = k.cols / k.shape.size;
  args.m = k.tokens;
  args.n = args.inner = k.shape.size;
  args.outer = 1;
  args.a = columns(k.shape, k.x);
  args.b = matrices(k.shape, k.d, true);
  if (k.shape.blocks == 1) args.b.batch = 0;
  args.out = columns(k.shape, k.out);
  args.addend = columns(k.shape, k.addend);
  args.alpha = k.weight;
  multiply(launcher, args);
}

int64_t workspace(const Card& card, const RotateBySeries& k) {
  return matrices_bytes(k.shape) + workspace(card, CayleyNeumann{k.shape, k.terms, false, false, {}, {}});
}

/// Here the matrices are made: each takes as long as the rotation of a few tokens.
void run(Launcher& launcher, const RotateBySeries& k, Ptr<std::byte> workspace) {
  const Ptr<float> d = workspace.as<float>();
  run(launcher, CayleyNeumann{k.shape, k.terms, false, false, k.skew, d}, workspace + matrices_bytes(k.shape));
  run(launcher, Rotate{k.tokens, k.cols, k.shape, k.x, d, k.weight, k.addend, k.out}, {});
}

int64_t workspace(const Card&, const RotationGradient& k) {
  const bool shared = k.shape.blocks == 1;
  return stretches_bytes(k.tokens * (shared ? k.cols / k.shape.size : 1), k.shape.blocks * k.shape.elements());
}

void run(Launcher& launcher, const RotationGradient& k, Ptr<std::byte> workspace) {
  const bool shared = k.shape.blocks == 1;
  StridedProductArgs args{};
  args.batches = k.shape.blocks;
  args.m = args.n = k.shape.size;
  args.outer = shared ? k.cols / k.shape.size : 1;
  args.inner = k.tokens;
  const auto side = [&](const Matrix& x) {  // rows are columns of a block, the reduction runs over tokens
    Strided s = strided(x);
    s.batch = s.outer = k.shape.size;
    s.high = 1;
    s.inner = x.ld;
    return s;
  };
  args.a = side(k.x);
  args.b = side(k.dy);
  args.alpha = 1;
  add_product(launcher, args, k.g, workspace);
}

}  // namespace lowrank::cuda

#endif
