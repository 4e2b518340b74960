// Attention as its definition reads, in double, and the workspace sizes that hold for every level.
#include <algorithm>
#include <limits>
#include <utility>

#include "backends/cpu/attention/attention.h"
#include "backends/cpu/reference.h"
#include "core/math.h"

namespace lowrank::cpu {

int64_t workspace(const Attention& k, int threads) {
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  const int64_t decode = kDecodeUnits * (heads / kv_heads) * (padded_head_dim(head_dim) + 16) * 4;
  const int64_t packed = packed_keys_bytes(std::max(k.tokens, k.keys), kv_heads, head_dim);
  return threads * forward_thread_bytes(head_dim) + std::max(decode, packed);
}

int64_t workspace(const AttentionBackward& k, int threads) {
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  const int64_t packed = packed_keys_bytes(k.tokens, kv_heads, head_dim);
  const int64_t partials = 2 * k.tokens * heads * padded_head_dim(head_dim) * 4;
  return threads * backward_thread_bytes(head_dim) + packed + partials;
}

namespace {

/// One head of one sequence: rows are counted from the start of the sequence.
struct Head {
  Matrix matrix;
  int64_t first_row, first_col;
  double get(int64_t row, int64_t col) const { return cpu::get(matrix, first_row + row, first_col + col); }
  void set(int64_t row, int64_t col, double value) const { cpu::set(matrix, first_row + row, first_col + col, value); }
};

double dot(const Head& a, int64_t row_a, const Head& b, int64_t row_b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += a.get(row_a, i) * b.get(row_b, i);
  return sum;
}

}  // namespace

void reference(const Cpu& cpu, const Attention& k) {
  const AttentionShape shape = shape_of(k);
  float* const lse = host(k.lse);
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
  for_units(cpu.pool, int64_t{shape.sequences} * shape.heads, [&](int thread, int64_t unit) {
    const int64_t sequence = unit / shape.heads, head = unit % shape.heads;
    const int64_t q0 = shape.seqlens[sequence], nq = shape.seqlens[sequence + 1] - q0;
    const int64_t k0 = q0, nk = nq + shape.cached;
    const Head qh{k.q, q0, head * d}, oh{k.out, q0, head * d}, kh{k.k, k0, head / group * d},
        vh{k.v, k0, head / group * d};
    auto* sums = reinterpret_cast<double*>(cpu.room + thread * forward_thread_bytes(d));
    for (int64_t i = 0; i < nq; ++i) {
      const int64_t visible = std::max<int64_t>(nk - nq + i + 1, 0);
      const int64_t first = std::max<int64_t>(visible - shape.window, 0);
      double top = -std::numeric_limits<double>::infinity(), total = 0;
      for (int64_t j = first; j < visible; ++j) top = std::max(top, shape.scale * dot(qh, i, kh, j, d));
      std::fill(sums, sums + d, 0.0);
      for (int64_t j = first; j < visible; ++j) {
        const double p = math::exp(shape.scale * dot(qh, i, kh, j, d) - top);
        total += p;
        for (int64_t c = 0; c < d; ++c) sums[c] += p * vh.get(j, c);
      }
      for (int64_t c = 0; c < d; ++c) oh.set(i, c, visible > 0 ? sums[c] / total : 0.0);
      if (lse != nullptr) {
        lse[(q0 + i) * shape.heads + head] =
            visible > 0 ? static_cast<float>(top + math::log(total)) : -std::numeric_limits<float>::infinity();
      }
    }
  });
}

void reference(const Cpu& cpu, const AttentionBackward& k) {
  const AttentionShape shape = shape_of(k);
  const float* const lse = host(k.lse);
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
  for_units(cpu.pool, int64_t{shape.sequences} * shape.kv_heads, [&](int thread, int64_t unit) {
    const int64_t sequence = unit / shape.kv_heads, kv_head = unit % shape.kv_heads;
    const int64_t q0 = shape.seqlens[sequence], nq = shape.seqlens[sequence + 1] - q0;
    const int64_t k0 = q0, nk = nq + shape.cached;
    const Head kh{k.k, k0, kv_head * d}, vh{k.v, k0, kv_head * d}, dkh{k.dk, k0, kv_head * d},
        dvh{k.dv, k0, kv_head * d};
    auto* first = reinterpret_cast<double*>(cpu.room + thread * backward_thread_bytes(d));
    double* second = first + d;
    // P and dS of query i and key j: everything else is sums of these.
    const auto probability = [&](const Head& qh, int64_t head, int64_t i, int64_t j) {
      return math::exp(shape.scale * dot(qh, i, kh, j, d) - lse[(q0 + i) * shape.heads + head]);
    };
    for (int64_t j = 0; j < nk; ++j) {
      std::fill(first, first + 2 * d, 0.0);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        const Head qh{k.q, q0, head * d}, oh{k.out, q0, head * d}, gh{k.dout, q0, head * d};
        const int64_t last = std::min<int64_t>(nq, j - (nk - nq) + shape.window);
        for (int64_t i = std::max<int64_t>(j - (nk - nq), 0); i < last; ++i) {
          const double p = probability(qh, head, i, j);
          const double ds = p * (dot(gh, i, vh, j, d) - dot(gh, i, oh, i, d)) * shape.scale;
          for (int64_t c = 0; c < d; ++c) {
            first[c] += ds * qh.get(i, c);
            second[c] += p * gh.get(i, c);
          }
        }
      }
      for (int64_t c = 0; c < d; ++c) {
        dkh.set(j, c, first[c]);
        dvh.set(j, c, second[c]);
      }
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const Head qh{k.q, q0, head * d}, oh{k.out, q0, head * d}, gh{k.dout, q0, head * d}, dqh{k.dq, q0, head * d};
      for (int64_t i = 0; i < nq; ++i) {
        std::fill(first, first + d, 0.0);
        for (int64_t j = std::max<int64_t>(nk - nq + i + 1 - shape.window, 0); j <= nk - nq + i; ++j) {
          const double ds = probability(qh, head, i, j) * (dot(gh, i, vh, j, d) - dot(gh, i, oh, i, d)) * shape.scale;
          for (int64_t c = 0; c < d; ++c) first[c] += ds * kh.get(j, c);
        }
        for (int64_t c = 0; c < d; ++c) dqh.set(i, c, first[c]);
      }
    }
  });
}

void reference(const Cpu&, const AppendToCache& k) {
  for (const auto& [fresh, to] : {std::pair(k.k, k.to_k), std::pair(k.v, k.to_v)}) {
    const int64_t row = k.cols * size_of(fresh.dtype);
    for (int64_t t = 0; t < k.tokens; ++t) std::copy_n(host(fresh.rows(t).data), row, host(to.rows(t).data));
  }
}

}  // namespace lowrank::cpu
