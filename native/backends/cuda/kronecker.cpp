#include <algorithm>

#include "backends/cuda/kronecker.h"
#include "backends/cuda/strided.h"

namespace lowrank::cuda {
namespace {

/// Tokens are taken in runs whose intermediate matrices are not larger.
constexpr int64_t kMostBytes = int64_t{64} << 20;

/// True if C X takes fewer multiplications before D than after it.
bool mixes_first(const KroneckerPair& s) {
  const int64_t through_d = s.rank > 0 ? s.rank * (s.q + s.k) : s.q * s.k;
  return s.l * s.p * s.q + s.l * through_d < s.p * through_d + s.l * s.p * s.k;
}

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
int64_t between(const KroneckerPair& s) { return mixes_first(s) ? s.l * s.q : s.p * s.k; }
int64_t inner_rows(const KroneckerPair& s) { return (mixes_first(s) ? s.l : s.p) * s.rank; }
int64_t run_of(int64_t tokens, int64_t floats) {
  return std::clamp<int64_t>(kMostBytes / (4 * std::max<int64_t>(floats, 1)), 1, std::max<int64_t>(tokens, 1));
}

int64_t forward_floats(const KroneckerPair& s) { return between(s) + inner_rows(s); }
int64_t backward_floats(const KroneckerPair& s) { return s.l * s.k + 2 * between(s) + 2 * inner_rows(s); }

Right right_c(const KroneckerPair& s) { return {s.c, s.l, s.p, 1}; }         // row i of C
Right right_c_turned(const KroneckerPair& s) { return {s.c, s.p, 1, s.p}; }  // column a
Right right_d(const KroneckerPair& s) { return {s.d, s.k, s.q, 1}; }         // row j of D
Right right_d_turned(const KroneckerPair& s) { return {s.d, s.q, 1, s.q}; }  // column b
Right low_rank_d(const KroneckerPair& s) { return {s.d, s.k, s.rank, 1}; }
Right low_rank_d_turned(const KroneckerPair& s) { return {s.d, s.rank, 1, s.rank}; }
Right low_rank_d2(const KroneckerPair& s) { return {s.d2, s.rank, s.q, 1}; }
Right low_rank_d2_turned(const KroneckerPair& s) { return {s.d2, s.q, 1, s.q}; }

/// out[t, row, j] = the sum over b of in[t, row, b] D[j, b]; with a rank, `z` is in d2^T.
void through_d(const Launches& run, const KroneckerPair& s, const Stack& in, const Stack& z, const Stack& out,
               const Finish& to = {}) {
  if (s.rank == 0) return run.through(in, right_d(s), out, to);
  run.through(in, low_rank_d2(s), z);
  run.through(z, low_rank_d(s), out, to);
}
/// out[t, row, b] = the sum over j of in[t, row, j] D[j, b]; with a rank, `z` is in d.
void back_through_d(const Launches& run, const KroneckerPair& s, const Stack& in, const Stack& z, const Stack& out,
                    const Finish& to = {}) {
  if (s.rank == 0) return run.through(in, right_d_turned(s), out, to);
  run.through(in, low_rank_d_turned(s), z);
  run.through(z, low_rank_d2_turned(s), out, to);
}

}  // namespace

int64_t workspace(const Card&, const Kronecker& k) {
  return round_up(4 * run_of(k.tokens, forward_floats(k.pair)) * forward_floats(k.pair), 256);
}

void run(Launcher& launcher, const Kronecker& k, Ptr<std::byte> workspace) {
  const KroneckerPair& s = k.pair;
  const bool first = mixes_first(s);
  const int64_t most = run_of(k.tokens, forward_floats(s)), rows = first ? s.l : s.p;
  for (int64_t begin = 0; begin < k.tokens; begin += most) {
    const Launches run{launcher, std::min(most, k.tokens - begin)};
    const Stack x = Stack{k.x.data, k.x.dtype, k.x.ld, s.p, s.q}.from(begin);
    const Stack out = dense(k.out, s.l, s.k).from(begin);
    const Stack middle = dense(workspace.as<float>(), rows, first ? s.q : s.k);
    const Stack z = dense(workspace.as<float>() + run.tokens * between(s), rows, s.rank);
    const Finish to{k.scale, k.gains, k.residual ? k.residual + begin * s.l * s.k : Ptr<float>()};
    if (first) {
      run.mix(x, right_c(s), middle);
      through_d(run, s, middle, z, out, to);
    } else {
      through_d(run, s, x, z, middle);
      run.mix(middle, right_c(s), out, to);
    }
  }
}

int64_t workspace(const Card&, const KroneckerBackward& k) {
  const KroneckerPair& s = k.pair;
  const int64_t own = round_up(4 * run_of(k.tokens, backward_floats(s)) * backward_floats(s), 256);
  // Whatever the number of tokens: as many stretches as there may be.
  const int64_t terms = k.tokens * std::max({s.l, s.p, s.k, s.q});
  int64_t sums = stretches_bytes(terms, s.l * s.p);
  if (s.rank == 0) return own + std::max(sums, stretches_bytes(terms, s.k * s.q));
  return own + std::max({sums, stretches_bytes(terms, s.k * s.rank), stretches_bytes(terms, s.rank * s.q)});
}

void run(Launcher& launcher, const KroneckerBackward& k, Ptr<std::byte> workspace) {
  const KroneckerPair& s = k.pair;
  const bool first = mixes_first(s);
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
    const Stack z_forth = take(rows, s.rank), z_back = take(rows, s.rank);
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
      run.mix(x, right_c(s), forth);
      if (s.rank > 0) run.through(forth, low_rank_d2(s), z_forth);
      back_through_d(run, s, g, z_back, back);
      run.add_over_columns(back, x, k.dc, sums);
      if (k.dx) run.mix(back, right_c_turned(s), dx, to_dx);
      at_d_in = forth;
      at_d_out = g;
    } else {
      through_d(run, s, x, z_forth, forth);
      run.mix(g, right_c_turned(s), back);
      run.add_over_columns(g, forth, k.dc, sums);
      if (k.dx) {
        back_through_d(run, s, back, z_back, dx, to_dx);
      } else if (s.rank > 0) {
        run.through(back, low_rank_d_turned(s), z_back);
      }
    }
    if (s.rank > 0) {
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
