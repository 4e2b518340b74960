// Products with Kronecker products, which are never made: products of strided matrices.
#include "kernel.h"

namespace lowrank::cuda {

/// out[row, c] = scale gains[c] x[row, c], fp32 and dense.
struct ScaledArgs {
  int64_t rows, cols;
  const void* x;
  int64_t ld;
  int32_t bf16;
  float scale;
  const float* gains;
  float* out;
};

/// c [l, p] = a [l, rank] b [rank, p], and its gradients.
struct FactorArgs {
  int64_t l, rank, p;
  const float *a, *b;
  float* c;
  const float* g;
  float *da, *db;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {

LOWRANK_KERNEL(scaled, ScaledArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= args.rows * args.cols) return;
  const int64_t row = at / args.cols, c = at % args.cols;
  const float value = args.scale * element(args.x, args.bf16, row * args.ld + c);
  args.out[at] = args.gains ? value * args.gains[c] : value;
}

LOWRANK_KERNEL(multiply_factors, FactorArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= args.l * args.p) return;
  const int64_t i = at / args.p, c = at % args.p;
  double sum = 0;
  for (int64_t j = 0; j < args.rank; ++j)
    sum += static_cast<double>(args.a[i * args.rank + j]) * args.b[j * args.p + c];
  args.c[at] = static_cast<float>(sum);
}

/// A thread each element of a, then of b.
LOWRANK_KERNEL(spread_over_factors, FactorArgs, 256, 4) {
  int64_t at = thread_of_grid();
  if (at < args.l * args.rank) {
    if (!args.da) return;
    const int64_t i = at / args.rank, j = at % args.rank;
    float sum = args.da[at];
    for (int64_t c = 0; c < args.p; ++c) sum = fmaf(args.g[i * args.p + c], args.b[j * args.p + c], sum);
    args.da[at] = sum;
    return;
  }
  at -= args.l * args.rank;
  if (at >= args.rank * args.p || !args.db) return;
  const int64_t j = at / args.p, c = at % args.p;
  float sum = args.db[at];
  for (int64_t i = 0; i < args.l; ++i) sum = fmaf(args.g[i * args.p + c], args.a[i * args.rank + j], sum);
  args.db[at] = sum;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/strided.h"

namespace lowrank::cuda {
namespace {

constexpr auto scaled = kernel_of<ScaledArgs>("scaled");
constexpr auto multiply_factors = kernel_of<FactorArgs>("multiply_factors");
constexpr auto spread_over_factors = kernel_of<FactorArgs>("spread_over_factors");

/// Tokens are taken in runs whose intermediate matrices are not larger.
constexpr int64_t kMostBytes = int64_t{64} << 20;

/// Matrices [rows, cols] of tokens, each dense.
struct Stack {
  Ptr<std::byte> data;
  DType dtype;
  int64_t token, rows, cols;

  Stack from(int64_t first) const { return {data + first * token * size_of(dtype), dtype, token, rows, cols}; }
};
Stack dense(Ptr<float> data, int64_t rows, int64_t cols) {
  return {data.as<std::byte>(), DType::f32, rows * cols, rows, cols};
}

/// A factor as the rows of a product's right side: row j, term c.
struct Right {
  Ptr<float> data;
  int64_t count, row, term;

  Strided strided() const {
    Strided s = cuda::strided(data);
    s.high = row;
    s.inner = term;
    return s;
  }
};

/// Last steps of a product: its result is scaled, and added to the addend.
struct Finish {
  float scale = 1;
  Ptr<float> gains = {}, addend = {};
};

struct Launches {
  Launcher& launcher;
  int64_t tokens;

  void finish(StridedProductArgs args, const Stack& out, const Finish& to) const {
    args.alpha = to.scale;
    args.gains = device_pointer(to.gains);
    args.gain_count = out.rows * out.cols;
    args.addend = args.out;
    args.addend.data = device_pointer(to.addend);
    args.batches = 1;
    args.outer = 1;
    multiply(launcher, args);
  }
  /// out[t, row, j] = the sum over c of in[t, row, c] right[j, c].
  void through(const Stack& in, const Right& right, const Stack& out, const Finish& to = {}) const {
    StridedProductArgs args{};
    args.m = tokens * in.rows;
    args.n = right.count;
    args.inner = in.cols;
    args.a = strided(in.data, in.dtype);
    args.a.group = in.rows;
    args.a.high = in.token;
    args.a.low = in.cols;
    args.a.inner = 1;
    args.b = right.strided();
    args.out = strided(out.data, out.dtype);
    args.out.group = out.rows;
    args.out.high = out.token;
    args.out.low = out.cols;
    args.out.inner = 1;
    finish(args, out, to);
  }
  /// out[t, i, column] = the sum over a of right[i, a] in[t, a, column].
  void mix(const Stack& in, const Right& right, const Stack& out, const Finish& to = {}) const {
    StridedProductArgs args{};
    args.m = tokens * in.cols;
    args.n = right.count;
    args.inner = in.rows;
    args.a = strided(in.data, in.dtype);
    args.a.group = in.cols;
    args.a.high = in.token;
    args.a.low = 1;
    args.a.inner = in.cols;
    args.b = right.strided();
    args.out = strided(out.data, out.dtype);
    args.out.group = out.cols;
    args.out.high = out.token;
    args.out.low = 1;
    args.out.inner = out.cols;
    finish(args, out, to);
  }
  /// to[i, a] += the sum over t and columns of left[t, i, column] right[t, a, column].
  void add_over_columns(const Stack& left, const Stack& right, Ptr<float> to, Ptr<std::byte> workspace) const {
    const auto side = [](const Stack& s) {
      Strided x = strided(s.data, s.dtype);
      x.high = s.cols;
      x.outer = s.token;
      x.inner = 1;
      return x;
    };
    add(left.rows, right.rows, left.cols, side(left), side(right), to, workspace);
  }
  /// to[j, c] += the sum over t and rows of left[t, row, j] right[t, row, c].
  void add_over_rows(const Stack& left, const Stack& right, Ptr<float> to, Ptr<std::byte> workspace) const {
    const auto side = [](const Stack& s) {
      Strided x = strided(s.data, s.dtype);
      x.high = 1;
      x.outer = s.token;
      x.inner = s.cols;
      return x;
    };
    add(left.cols, right.cols, left.rows, side(left), side(right), to, workspace);
  }
  void add(int64_t m, int64_t n, int64_t inner, const Strided& a, const Strided& b, Ptr<float> to,
           Ptr<std::byte> workspace) const {
    if (!to) return;
    StridedProductArgs args{};
    args.batches = 1;
    args.m = m;
    args.n = n;
    args.outer = tokens;
    args.inner = inner;
    args.a = a;
    args.b = b;
    args.alpha = 1;
    add_product(launcher, args, to, workspace);
  }
};

/// Floats of a token's intermediate matrices, and the largest tokens of a run.
int64_t between(const KroneckerShape& s) { return s.mixes_first() ? s.l * s.q : s.p * s.k; }
int64_t inner_rows(const KroneckerShape& s) { return (s.mixes_first() ? s.l : s.p) * s.r; }
int64_t run_of(int64_t tokens, int64_t floats) {
  return std::clamp<int64_t>(kMostBytes / (4 * std::max<int64_t>(floats, 1)), 1, std::max<int64_t>(tokens, 1));
}

int64_t forward_floats(const KroneckerShape& s) { return between(s) + inner_rows(s); }
int64_t backward_floats(const KroneckerShape& s) { return s.l * s.k + 2 * between(s) + 2 * inner_rows(s); }

Right right_c(const KroneckerPair& pair) { return {pair.c, pair.shape.l, pair.shape.p, 1}; }         // row i of C
Right right_c_turned(const KroneckerPair& pair) { return {pair.c, pair.shape.p, 1, pair.shape.p}; }  // column a
Right right_d(const KroneckerPair& pair) { return {pair.d, pair.shape.k, pair.shape.q, 1}; }         // row j of D
Right right_d_turned(const KroneckerPair& pair) { return {pair.d, pair.shape.q, 1, pair.shape.q}; }  // column b
Right low_rank_d(const KroneckerPair& pair) { return {pair.d, pair.shape.k, pair.shape.r, 1}; }
Right low_rank_d_turned(const KroneckerPair& pair) { return {pair.d, pair.shape.r, 1, pair.shape.r}; }
Right low_rank_d2(const KroneckerPair& pair) { return {pair.d2, pair.shape.r, pair.shape.q, 1}; }
Right low_rank_d2_turned(const KroneckerPair& pair) { return {pair.d2, pair.shape.q, 1, pair.shape.q}; }

/// out[t, row, j] = the sum over b of in[t, row, b] D[j, b]; with a rank, `z` is in d2^T.
void through_d(const Launches& run, const KroneckerPair& pair, const Stack& in, const Stack& z, const Stack& out,
               const Finish& to = {}) {
  if (pair.shape.r == 0) return run.through(in, right_d(pair), out, to);
  run.through(in, low_rank_d2(pair), z);
  run.through(z, low_rank_d(pair), out, to);
}
/// out[t, row, b] = the sum over j of in[t, row, j] D[j, b]; with a rank, `z` is in d.
void back_through_d(const Launches& run, const KroneckerPair& pair, const Stack& in, const Stack& z, const Stack& out,
                    const Finish& to = {}) {
  if (pair.shape.r == 0) return run.through(in, right_d_turned(pair), out, to);
  run.through(in, low_rank_d_turned(pair), z);
  run.through(z, low_rank_d2_turned(pair), out, to);
}

}  // namespace

int64_t workspace(const Card&, const Kronecker& k) {
  return round_up(4 * run_of(k.tokens, forward_floats(k.pair.shape)) * forward_floats(k.pair.shape), 256);
}

void run(Launcher& launcher, const Kronecker& k, Ptr<std::byte> workspace) {
  const KroneckerShape& s = k.pair.shape;
  const bool first = s.mixes_first();
  const int64_t most = run_of(k.tokens, forward_floats(s)), rows = first ? s.l : s.p;
  for (int64_t begin = 0; begin < k.tokens; begin += most) {
    const Launches run{launcher, std::min(most, k.tokens - begin)};
    const Stack x = Stack{k.x.data, k.x.dtype, k.x.ld, s.p, s.q}.from(begin);
    const Stack out = dense(k.out, s.l, s.k).from(begin);
    const Stack middle = dense(workspace.as<float>(), rows, first ? s.q : s.k);
    const Stack z = dense(workspace.as<float>() + run.tokens * between(s), rows, s.r);
    const Finish to{k.scale, k.gains, k.residual ? k.residual + begin * s.l * s.k : Ptr<float>()};
    if (first) {
      run.mix(x, right_c(k.pair), middle);
      through_d(run, k.pair, middle, z, out, to);
    } else {
      through_d(run, k.pair, x, z, middle);
      run.mix(middle, right_c(k.pair), out, to);
    }
  }
}

int64_t workspace(const Card&, const KroneckerBackward& k) {
  const KroneckerShape& s = k.pair.shape;
  const int64_t own = round_up(4 * run_of(k.tokens, backward_floats(s)) * backward_floats(s), 256);
  // Whatever the number of tokens: as many stretches as there may be.
  const int64_t terms = k.tokens * std::max({s.l, s.p, s.k, s.q});
  int64_t sums = stretches_bytes(terms, s.l * s.p);
  if (s.r == 0) return own + std::max(sums, stretches_bytes(terms, s.k * s.q));
  return own + std::max({sums, stretches_bytes(terms, s.k * s.r), stretches_bytes(terms, s.r * s.q)});
}

void run(Launcher& launcher, const KroneckerBackward& k, Ptr<std::byte> workspace) {
  const KroneckerShape& s = k.pair.shape;
  const bool first = s.mixes_first();
  const int64_t most = run_of(k.tokens, backward_floats(s)), rows = first ? s.l : s.p;
  const Ptr<std::byte> sums = workspace + round_up(4 * most * backward_floats(s), 256);
  for (int64_t begin = 0; begin < k.tokens; begin += most) {
    const Launches run{launcher, std::min(most, k.tokens - begin)};
    Ptr<float> room = workspace.as<float>();
    const auto take = [&](int64_t matrix_rows, int64_t cols) {
      const Stack stack = dense(room, matrix_rows, cols);
      room = room + run.tokens * matrix_rows * cols;
      return stack;
    };
    const Stack x = Stack{k.x.data, k.x.dtype, k.x.ld, s.p, s.q}.from(begin);
    const Stack g = take(s.l, s.k);
    const Stack forth = take(rows, first ? s.q : s.k), back = take(rows, first ? s.q : s.k);
    const Stack z_forth = take(rows, s.r), z_back = take(rows, s.r);
    const Matrix dy = k.dy.rows(begin);
    const ScaledArgs scaling{run.tokens,
                             s.l * s.k,
                             device_pointer(dy.data),
                             dy.ld,
                             dy.dtype == DType::bf16,
                             k.scale,
                             device_pointer(k.gains),
                             device_pointer(g.data.as<float>())};
    launch_elements(launcher, scaled, run.tokens * s.l * s.k, scaling);
    const Ptr<float> at = k.dx ? k.dx + begin * s.p * s.q : Ptr<float>();
    const Stack dx = dense(at, s.p, s.q);
    const Finish to_dx{1, {}, k.adds_dx ? at : Ptr<float>()};
    // `forth` is what the first product of the forward pass gives, `back` the gradient there.
    Stack at_d_in = x, at_d_out = back;
    if (first) {
      run.mix(x, right_c(k.pair), forth);
      if (s.r > 0) run.through(forth, low_rank_d2(k.pair), z_forth);
      back_through_d(run, k.pair, g, z_back, back);
      run.add_over_columns(back, x, k.dc, sums);
      if (k.dx) run.mix(back, right_c_turned(k.pair), dx, to_dx);
      at_d_in = forth;
      at_d_out = g;
    } else {
      through_d(run, k.pair, x, z_forth, forth);
      run.mix(g, right_c_turned(k.pair), back);
      run.add_over_columns(g, forth, k.dc, sums);
      if (k.dx) {
        back_through_d(run, k.pair, back, z_back, dx, to_dx);
      } else if (s.r > 0) {
        run.through(back, low_rank_d_turned(k.pair), z_back);
      }
    }
    if (s.r > 0) {
      run.add_over_rows(at_d_out, z_forth, k.dd, sums);
      run.add_over_rows(z_back, at_d_in, k.dd2, sums);
    } else {
      run.add_over_rows(at_d_out, at_d_in, k.dd, sums);
    }
  }
}

void run(Launcher& launcher, const KroneckerC& k, Ptr<std::byte>) {
  FactorArgs args{};
  args.l = k.l;
  args.rank = k.rank;
  args.p = k.p;
  args.a = device_pointer(k.a);
  args.b = device_pointer(k.b);
  args.c = device_pointer(k.c);
  launch_elements(launcher, multiply_factors, k.l * k.p, args);
}

void run(Launcher& launcher, const SpreadKroneckerC& k, Ptr<std::byte>) {
  FactorArgs args{};
  args.l = k.l;
  args.rank = k.rank;
  args.p = k.p;
  args.a = device_pointer(k.a);
  args.b = device_pointer(k.b);
  args.g = device_pointer(k.g);
  args.da = device_pointer(k.da);
  args.db = device_pointer(k.db);
  launch_elements(launcher, spread_over_factors, (k.l + k.p) * k.rank, args);
}

}  // namespace lowrank::cuda

#endif
