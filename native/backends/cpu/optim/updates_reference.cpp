#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/optim/updates.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

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

State state_from(const Moments& moments, int64_t first) {
  return {moments.floats ? host(moments.floats) + first : nullptr,
          moments.codes ? DynamicCodes{host(moments.codes), host(moments.absmax)}.from(first) : DynamicCodes{}};
}

/// Elements that lie apart are updated side by side, some at a time.
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

void adamw(const AdamW& k, const UpdatePiece& piece, int64_t count, const float* grad, float* m, float* v, float* p) {
  const double b1 = k.beta1, b2 = k.beta2;
  const double correction1 = 1.0 - math::pow(b1, static_cast<double>(piece.step));
  const double correction2 = 1.0 - math::pow(b2, static_cast<double>(piece.step));
  const double step_size = piece.learning_rate / correction1;
  const double decay = 1.0 - double{piece.learning_rate} * piece.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * k.grad_scale;
    const double first = b1 * m[i] + (1.0 - b1) * g;
    const double second = b2 * v[i] + (1.0 - b2) * g * g;
    m[i] = static_cast<float>(first);
    v[i] = static_cast<float>(second);
    p[i] = static_cast<float>(p[i] * decay - step_size * first / (std::sqrt(second / correction2) + k.epsilon));
  }
}

void encode(const DynamicCoder& coder, const float* values, int64_t count, const DynamicCodes& to) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  encode_block(coder, values, largest, count, to);
}

void adamw_8bit(const AdamW& k, const UpdatePiece& piece, int64_t count, const float* grad, const DynamicCodes& m,
                const DynamicCodes& root_v, float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    float first[kDynamicBlock], second[kDynamicBlock];
    decode_block(DynamicCoder::with_sign(), m.from(begin), size, first);
    decode_block(DynamicCoder::without_sign(), root_v.from(begin), size, second);
    for (int64_t i = 0; i < size; ++i) second[i] *= second[i];
    adamw(k, piece, size, grad + begin, first, second, p + begin);
    for (int64_t i = 0; i < size; ++i) second[i] = std::sqrt(second[i]);
    encode(DynamicCoder::with_sign(), first, size, m.from(begin));
    encode(DynamicCoder::without_sign(), second, size, root_v.from(begin));
  });
}

void sgd(const Sgd& k, const UpdatePiece& piece, int64_t count, const float* grad, float* m, float* p) {
  const double rate = piece.learning_rate, momentum = k.momentum, decay = piece.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * k.grad_scale + decay * p[i];
    const double moved = m == nullptr ? g : momentum * m[i] + g;
    if (m != nullptr) m[i] = static_cast<float>(moved);
    p[i] = static_cast<float>(p[i] - rate * moved);
  }
}

void lion(const Lion& k, const UpdatePiece& piece, int64_t count, const float* grad, float* m, float* p) {
  const double b1 = k.beta1, b2 = k.beta2;
  const double decay = 1.0 - double{piece.learning_rate} * piece.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * k.grad_scale;
    const double mixed = b1 * m[i] + (1.0 - b1) * g;
    const double sign = mixed > 0 ? 1 : mixed < 0 ? -1 : 0;
    p[i] = static_cast<float>(p[i] * decay - piece.learning_rate * sign);
    m[i] = static_cast<float>(b2 * m[i] + (1.0 - b2) * g);
  }
}

void lion_8bit(const Lion& k, const UpdatePiece& piece, int64_t count, const float* grad, const DynamicCodes& m,
               float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    float moment[kDynamicBlock];
    decode_block(DynamicCoder::with_sign(), m.from(begin), size, moment);
    lion(k, piece, size, grad + begin, moment, p + begin);
    encode(DynamicCoder::with_sign(), moment, size, m.from(begin));
  });
}

}  // namespace

void for_shares(Pool& pool, std::span<const UpdatePiece> pieces, const Rule& rule) {
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

void reference(const Cpu& cpu, const AdamW& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State& v, float* p) {
               if (m.floats != nullptr) return adamw(k, piece, count, g, m.floats, v.floats, p);
               adamw_8bit(k, piece, count, g, m.codes, v.codes, p);
             });
}

void reference(const Cpu& cpu, const Sgd& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               sgd(k, piece, count, g, m.floats, p);
             });
}

void reference(const Cpu& cpu, const Lion& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               if (m.floats != nullptr) return lion(k, piece, count, g, m.floats, p);
               lion_8bit(k, piece, count, g, m.codes, p);
             });
}

void reference(const Cpu& cpu, const FollowImportances& k) {
  const float *const value = host(k.value), *const gradient = host(k.gradient);
  float *const sensitivity = host(k.sensitivity), *const uncertainty = host(k.uncertainty);
  const float b1 = k.beta1, b2 = k.beta2, scale = k.grad_scale;
  cpu.pool.for_range(k.count, 16384, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float importance = std::fabs(value[i] * (scale * gradient[i]));
      sensitivity[i] = b1 * sensitivity[i] + (1 - b1) * importance;
      uncertainty[i] = b2 * uncertainty[i] + (1 - b2) * std::fabs(importance - sensitivity[i]);
    }
  });
}

}  // namespace lowrank::cpu
