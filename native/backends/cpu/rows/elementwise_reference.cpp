#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/reference.h"
#include "quant/half.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const Rope& k) {
  const int64_t half = k.turned / 2;
  for_rows(cpu, k.rows, int64_t{k.heads} * k.head_dim, [&](int64_t row) {
    const float* c = host(k.cos) + host(k.positions)[row] * half;
    const float* s = host(k.sin) + host(k.positions)[row] * half;
    for (int64_t head = 0; head < k.heads; ++head) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = head * k.head_dim + i, second = first + half;
        const double x1 = get(k.x, row, first), x2 = get(k.x, row, second);
        const double sine = k.inverse ? -s[i] : s[i];
        set(k.x, row, first, x1 * c[i] - x2 * sine);
        set(k.x, row, second, x2 * c[i] + x1 * sine);
      }
    }
  });
}

void reference(const Cpu& cpu, const GatherRows& k) {
  for_rows(cpu, k.count, k.cols, [&](int64_t row) {
    const int64_t from = k.rows ? host(k.rows)[row] : row;
    for (int64_t col = 0; col < k.cols; ++col) set(k.out, row, col, get(k.x, from, col));
  });
}

void reference(const Cpu& cpu, const ScatterAddRows& k) {
  for_rows(cpu, k.count, k.cols, [&](int64_t row) {
    const int64_t to = k.rows ? host(k.rows)[row] : row;
    for (int64_t col = 0; col < k.cols; ++col) set(k.out, to, col, get(k.out, to, col) + get(k.x, row, col));
  });
}

void reference(const Cpu& cpu, const Dropout& k) {
  const uint64_t base = hash_base(k.key);
  const uint32_t threshold = drop_threshold(k.p);
  const float scale = 1.0f / (1.0f - k.p);
  for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
    for (int64_t col = 0; col < k.cols; ++col) {
      const bool keep = hash_draw(base, static_cast<uint64_t>(row * k.cols + col)) >= threshold;
      set(k.out, row, col, keep ? get(k.x, row, col) * scale : 0.0f);
    }
  });
}

void reference(const Cpu& cpu, const DropoutBackward& k) {
  const uint64_t base = hash_base(k.key);
  const uint32_t threshold = drop_threshold(k.p);
  const float scale = 1.0f / (1.0f - k.p);
  for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
    for (int64_t col = 0; col < k.cols; ++col) {
      const bool keep = hash_draw(base, static_cast<uint64_t>(row * k.cols + col)) >= threshold;
      if (keep) set(k.y, row, col, get(k.y, row, col) + get(k.x, row, col) * scale);
    }
  });
}

void reference(const Cpu& cpu, const ScaleColumns& k) {
  for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
    for (int64_t col = 0; col < k.cols; ++col) {
      double value = double{get(k.x, row, col)} * host(k.gain)[col];
      if (k.bias) value += host(k.bias)[col];
      if (k.addend.data) value += get(k.addend, row, col);
      set(k.y, row, col, value);
    }
  });
}

void reference(const Cpu&, const Zero& k) { std::memset(host(k.to), 0, static_cast<size_t>(k.bytes)); }

void reference(const Cpu& cpu, const Cast& k) {
  const float* const from = host(k.from);
  uint16_t* const to = host(k.to);
  cpu.pool.for_range(k.count, 16384,
                     [&](int64_t begin, int64_t end) { encode_bf16(from + begin, end - begin, to + begin); });
}

void reference(const Cpu&, const AddConstant& k) {
  float* const to = host(k.to);
  for (int64_t i = 0; i < k.count; ++i) to[i] += k.value;
}

void reference(const Cpu& cpu, const AddNoise& k) {
  const uint64_t base = hash_base(k.key);
  for (size_t s = 0; s + 1 < k.host_seqlens.size(); ++s) {
    const int64_t first = k.host_seqlens[s], count = k.host_seqlens[s + 1] - first;
    const float bound =
        static_cast<float>(k.alpha / std::sqrt(static_cast<double>(count) * static_cast<double>(k.cols)));
    cpu.pool.for_range(count, std::max<int64_t>(1, 16384 / k.cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = first + begin; row < first + end; ++row) {
        float* const y = host(k.y.data.as<float>()) + row * k.y.ld;
        for (int64_t c = 0; c < k.cols; ++c) {
          const uint32_t bits = hash_draw(base, static_cast<uint64_t>(row * k.cols + c));
          y[c] += bound * ((static_cast<float>(bits >> 8) + 0.5f) * 0x1p-23f - 1.0f);
        }
      }
    });
  }
}

}  // namespace lowrank::cpu
