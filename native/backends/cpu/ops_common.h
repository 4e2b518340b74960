// Code shared by all levels of the element-wise and attention kernels: element access by dtype, the dropout hash, the
// layout of packed sequences, and handing out units of work. Nothing here may depend on the instruction set.
#pragma once

#include <atomic>
#include <cstdint>

#include "backends/cpu/table.h"
#include "core/dtype.h"
#include "core/factors.h"
#include "core/pool.h"

namespace lowrank::cpu {

/// B with all that scales it, in memory.
inline ScaledB scaled_b(const Fold& k) {
  return {k.rank, k.active, k.scale, k.weight, host(k.b), host(k.d), host(k.mask), host(k.b_gain), host(k.row_gains)};
}

/// 16-bit elements by name, so that kernels can be written over the type of an element.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

template <class T>
T* row_as(const Matrix& matrix, int64_t row) {
  return host(matrix.data.as<T>()) + row * matrix.ld;
}

inline float load_element(const std::byte* row, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::bf16:
      return f32_from_bf16(reinterpret_cast<const uint16_t*>(row)[index]);
    case DType::f16:
      return f32_from_f16(reinterpret_cast<const uint16_t*>(row)[index]);
    default:
      return reinterpret_cast<const float*>(row)[index];
  }
}

inline void store_element(std::byte* row, DType dtype, int64_t index, float value) {
  if (dtype == DType::bf16) {
    reinterpret_cast<uint16_t*>(row)[index] = bf16_from_f32(value);
  } else {
    reinterpret_cast<float*>(row)[index] = value;
  }
}

/// Calls body(thread, unit) for every unit below `count`, handed out one by one in order. What enter() returns lives on
/// each thread around its units.
template <class Body, class Enter>
void for_units(Pool& pool, int64_t count, Body&& body, Enter&& enter) {
  std::atomic<int64_t> next{0};
  pool.run([&](int thread, int) {
    [[maybe_unused]] const auto state = enter();
    for (;;) {
      const int64_t unit = next.fetch_add(1, std::memory_order_relaxed);
      if (unit >= count) return;
      body(thread, unit);
    }
  });
}

template <class Body>
void for_units(Pool& pool, int64_t count, Body&& body) {
  for_units(pool, count, body, [] { return 0; });
}

/// Rows per chunk for a row-wise kernel: about 16 Ki elements, so that a chunk is worth a trip to the counter.
inline int64_t row_grain(int64_t cols) { return cols >= 16384 ? 1 : (16384 + cols) / (cols > 0 ? cols : 1); }
/// Columns that a thread sums over all rows, and rows that are taken at a time, whose sums are then added to the rest.
inline constexpr int64_t kColumnChunk = 64, kRowChunk = 64;
/// Floats rounded up to whole cache lines.
constexpr int64_t whole_lines(int64_t floats) { return (floats + 15) / 16 * 16; }
/// Elements per chunk for a flat kernel.
inline constexpr int64_t kFlatGrain = 32768;

/// Sums chunk(begin, end) over pieces of 4096 elements. The pieces of each of 64 fixed stretches are added in order,
/// then the stretches: the order depends on the count alone, whichever thread computes what.
template <class Chunk>
double sum_chunks(Pool& pool, int64_t count, Chunk&& chunk) {
  constexpr int64_t kPiece = 4096, kStretches = 64;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  double sums[kStretches] = {};
  pool.for_range(kStretches, pieces > kStretches ? 1 : kStretches, [&](int64_t begin, int64_t end) {
    for (int64_t stretch = begin; stretch < end; ++stretch) {
      double sum = 0;
      for (int64_t piece = stretch * pieces / kStretches; piece < (stretch + 1) * pieces / kStretches; ++piece) {
        const int64_t first = piece * kPiece;
        sum += chunk(first, first + kPiece < count ? first + kPiece : count);
      }
      sums[stretch] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

// ---- dropout: the draws of elements 2i and 2i+1 are the two halves of one 64-bit hash, a counter through the
// finalizer of splitmix64. The key is mixed first, so that neighboring keys give unrelated sequences.
inline constexpr uint64_t kHashStep = 0x9e3779b97f4a7c15u;
inline constexpr uint64_t kHashMultiply1 = 0xbf58476d1ce4e5b9u;
inline constexpr uint64_t kHashMultiply2 = 0x94d049bb133111ebu;

inline uint64_t hash_mix(uint64_t x) {
  x = (x ^ (x >> 30)) * kHashMultiply1;
  x = (x ^ (x >> 27)) * kHashMultiply2;
  return x ^ (x >> 31);
}
inline uint64_t hash_base(uint64_t key) { return hash_mix(key + kHashStep); }
inline uint32_t hash_draw(uint64_t base, uint64_t index) {
  return static_cast<uint32_t>(hash_mix(base + (index >> 1) * kHashStep) >> ((index & 1) * 32));
}
/// An element is kept when its draw is at least this.
inline uint32_t drop_threshold(float p) {
  const double threshold = static_cast<double>(p) * 4294967296.0;
  return threshold >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(threshold);
}

}  // namespace lowrank::cpu
