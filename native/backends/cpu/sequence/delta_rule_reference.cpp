// The gated delta rule as its definition reads, in double, and what is the same at all levels.
#include "backends/cpu/sequence/delta_rule.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/reference.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

/// log(1 + e^z), its slope, and their quotient, which stays finite.
struct Softplus {
  double value, slope;
  explicit Softplus(double z) {
    const double e = math::exp(-std::fabs(z)), log = e < 1e-5 ? e - e * e / 2 : math::log(1 + e);
    value = (z > 0 ? z : 0) + log;
    slope = (z > 0 ? 1 : e) / (1 + e);
  }
};

/// A vector of a row and its quotient with its norm, times a factor.
struct Unit {
  std::vector<double> y;
  double factor, over;  // 1 / norm
  Unit(const Matrix& x, int64_t row, int64_t first, int64_t count, double times) : factor(times) {
    double squares = 0;
    for (int64_t i = 0; i < count; ++i) squares += element(x, row, first + i) * element(x, row, first + i);
    over = 1 / std::sqrt(squares + kDeltaEpsilon);
    for (int64_t i = 0; i < count; ++i) y.push_back(element(x, row, first + i) * over * factor);
  }
  /// Sets the gradient of x from that of y.
  void backward(const std::vector<double>& dy, const Matrix& dx, int64_t row, int64_t first) const {
    double along = 0;
    for (size_t i = 0; i < y.size(); ++i) along += dy[i] * y[i];
    for (size_t i = 0; i < y.size(); ++i)
      set(dx, row, first + static_cast<int64_t>(i), over * (factor * dy[i] - y[i] / factor * along));
  }
};

/// A token of a head.
struct Token {
  Unit q, k;
  std::vector<double> v;
  DeltaGates gates;
  Token(const DeltaInputs& in, int64_t row, int64_t head)
      : q(in.x, row, head / in.shape.group() * in.shape.key_dim, in.shape.key_dim,
          1 / std::sqrt(static_cast<double>(in.shape.key_dim))),
        k(in.x, row, in.shape.keys() + head / in.shape.group() * in.shape.key_dim, in.shape.key_dim, 1),
        gates(delta_gates(in, row, head)) {
    for (int64_t j = 0; j < in.shape.value_dim; ++j)
      v.push_back(element(in.x, row, 2 * in.shape.keys() + head * in.shape.value_dim + j));
  }
};

using HeadState = std::vector<double>;  // [key_dim, value_dim]

/// x^T S.
std::vector<double> times(const std::vector<double>& x, const HeadState& s, size_t cols) {
  std::vector<double> y(cols);
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < cols; ++j) y[j] += x[i] * s[i * cols + j];
  return y;
}

/// S y.
std::vector<double> times(const HeadState& s, const std::vector<double>& y) {
  std::vector<double> x(s.size() / y.size());
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < y.size(); ++j) x[i] += s[i * y.size() + j] * y[j];
  return x;
}

void add_outer(HeadState& s, const std::vector<double>& x, const std::vector<double>& y) {
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < y.size(); ++j) s[i * y.size() + j] += x[i] * y[j];
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void scale(HeadState& s, double by) {
  for (double& value : s) value *= by;
}

/// v - S'^T k for the decayed state.
std::vector<double> error_of(const Token& token, const HeadState& decayed) {
  std::vector<double> error = times(token.k.y, decayed, token.v.size());
  for (size_t j = 0; j < error.size(); ++j) error[j] = token.v[j] - error[j];
  return error;
}

void advance(HeadState& s, const Token& token) {
  scale(s, token.gates.decay);
  std::vector<double> delta = error_of(token, s);
  scale(delta, token.gates.beta);
  add_outer(s, token.k.y, delta);
}

void copy(const HeadState& from, float* to) {
  for (size_t i = 0; to != nullptr && i < from.size(); ++i) to[i] = static_cast<float>(from[i]);
}

/// The backward pass of a token: `g` is the gradient of the state after it, and becomes that of the one before.
struct TokenGradient {
  std::vector<double> dq, dk, dv;
  double dbeta, dalpha;
  TokenGradient(const Token& token, const HeadState& before, const std::vector<double>& dout, HeadState& g) {
    HeadState decayed = before;
    scale(decayed, token.gates.decay);
    const std::vector<double> error = error_of(token, decayed);
    std::vector<double> delta = error;
    scale(delta, token.gates.beta);
    HeadState after = decayed;
    add_outer(after, token.k.y, delta);
    dq = times(after, dout);
    add_outer(g, token.q.y, dout);
    const std::vector<double> ddelta = times(token.k.y, g, dout.size());
    dbeta = dot(ddelta, error) * token.gates.beta * (1 - token.gates.beta);
    dv = ddelta;
    scale(dv, token.gates.beta);
    std::vector<double> dmu = dv;
    scale(dmu, -1);
    dk = times(g, delta);
    const std::vector<double> more = times(decayed, dmu);
    for (size_t i = 0; i < dk.size(); ++i) dk[i] += more[i];
    add_outer(g, token.k.y, dmu);
    dalpha = token.gates.slope * dot(g, decayed);
    scale(g, token.gates.decay);
  }
};

}  // namespace

DeltaGates delta_gates(const DeltaInputs& in, int64_t row, int64_t head) {
  const Softplus plus(element(in.alpha, row, head) + host(in.bias)[head]);
  const double rate = -math::exp(host(in.weight)[head]);
  return {1 / (1 + math::exp(-element(in.beta, row, head))), math::exp(rate * plus.value), rate * plus.slope};
}

void reference(const Cpu& cpu, const GatedDeltaRule& k) {
  const DeltaHeads& heads = k.in.shape;
  const int64_t size = heads.head_state();
  for_units(cpu.pool, k.in.sequences() * heads.heads, [&](int, int64_t unit) {
    const int64_t head = unit % heads.heads;
    const int32_t* const rows = k.in.host_seqlens.data() + unit / heads.heads;
    HeadState s(static_cast<size_t>(size));
    float* const own = k.state ? host(k.state) + head * size : nullptr;
    if (own != nullptr && k.past > 0) std::copy_n(own, size, s.begin());
    for (int64_t row = rows[0]; row < rows[1]; ++row) {
      const Token token(k.in, row, head);
      advance(s, token);
      const std::vector<double> o = times(token.q.y, s, token.v.size());
      for (int64_t j = 0; j < heads.value_dim; ++j)
        set(k.out, row, head * heads.value_dim + j, o[static_cast<size_t>(j)]);
      copy(s, host(k.end_before(row + 1, head)));
    }
    copy(s, own);
  });
}

void reference(const Cpu& cpu, const GatedDeltaRuleBackward& k) {
  const DeltaHeads& heads = k.in.shape;
  const int64_t size = heads.head_state(), keys = heads.keys();
  for_units(cpu.pool, k.in.sequences() * heads.key_heads, [&](int, int64_t unit) {
    const int32_t* const rows = k.in.host_seqlens.data() + unit / heads.key_heads;
    const int64_t first = rows[0], end = rows[1], key_head = unit % heads.key_heads;
    std::vector<HeadState> gradients(static_cast<size_t>(heads.group()), HeadState(static_cast<size_t>(size)));
    for (int64_t last = end; last > first;) {
      const int64_t begin = std::max(first, (last - 1) / kDeltaTokens * kDeltaTokens);
      const auto count = static_cast<size_t>(last - begin);
      std::vector<std::vector<double>> dq(count), dk(count);
      for (int64_t h = 0; h < heads.group(); ++h) {
        const int64_t head = key_head * heads.group() + h;
        std::vector<HeadState> states(1, HeadState(static_cast<size_t>(size)));
        if (begin > first) std::copy_n(host(k.end_before(begin, head)), size, states[0].begin());
        std::vector<Token> tokens;
        for (int64_t row = begin; row < last; ++row) {
          tokens.emplace_back(k.in, row, head);
          states.push_back(states.back());
          advance(states.back(), tokens.back());
        }
        for (int64_t row = last - 1; row >= begin; --row) {
          const auto t = static_cast<size_t>(row - begin);
          std::vector<double> d;
          for (int64_t j = 0; j < heads.value_dim; ++j) d.push_back(element(k.dout, row, head * heads.value_dim + j));
          const TokenGradient of(tokens[t], states[t], d, gradients[static_cast<size_t>(h)]);
          set(k.dbeta, row, head, of.dbeta);
          set(k.dalpha, row, head, of.dalpha);
          for (int64_t j = 0; j < heads.value_dim; ++j)
            set(k.dx, row, 2 * keys + head * heads.value_dim + j, of.dv[static_cast<size_t>(j)]);
          dq[t].resize(of.dq.size());
          dk[t].resize(of.dk.size());
          for (size_t i = 0; i < of.dq.size(); ++i) dq[t][i] += of.dq[i], dk[t][i] += of.dk[i];
          if (h + 1 < heads.group()) continue;
          tokens[t].q.backward(dq[t], k.dx, row, key_head * heads.key_dim);
          tokens[t].k.backward(dk[t], k.dx, row, keys + key_head * heads.key_dim);
        }
      }
      last = begin;
    }
  });
}

void reference(const Cpu&, const DeltaRuleGradient& k) {
  for (int64_t head = 0; head < k.heads; ++head) {
    double of_weight = 0, of_bias = 0;
    for (int64_t row = 0; row < k.tokens; ++row) {
      const double d = element(k.dalpha, row, head);
      const Softplus plus(element(k.alpha, row, head) + host(k.bias)[head]);
      of_bias += d;
      of_weight += d * plus.value / plus.slope;
    }
    if (k.dweight) host(k.dweight)[head] += static_cast<float>(of_weight);
    if (k.dbias) host(k.dbias)[head] += static_cast<float>(of_bias);
  }
}

int64_t workspace(const GatedDeltaRule& k, int threads) {
  return threads * delta_thread_floats(k.in.shape.key_dim, k.in.shape.value_dim) * 4;
}
int64_t workspace(const GatedDeltaRuleBackward& k, int threads) {
  const DeltaHeads& heads = k.in.shape;
  return threads * delta_backward_thread_floats(heads.group(), heads.key_dim, heads.value_dim) * 4;
}

}  // namespace lowrank::cpu
