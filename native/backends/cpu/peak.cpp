#include "backends/cpu/peak.h"

#include <algorithm>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms of GCC 12 about its own intrinsics
#endif
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lowrank::cpu {

#if defined(__x86_64__)
namespace {

/// Sums that do not wait for one another: more than the latency of a multiply-add times two units.
constexpr int kChains = 12;
constexpr int64_t kVectorLoops = 500000;
constexpr int64_t kTileLoops = 50000;

// The operand is zero, so that no sum ever leaves the range in which arithmetic is fast; the compiler cannot know that.
#define LOWRANK_PEAK(name, isa, type, zero, operations, step)          \
  __attribute__((target(isa))) double name() {                         \
    type c[kChains], a = zero;                                         \
    for (auto& sum : c) sum = a;                                       \
    for (int64_t i = 0; i < kVectorLoops; ++i) {                       \
      asm volatile("" : "+x"(a));                                      \
      _Pragma("GCC unroll 12") for (int j = 0; j < kChains; ++j) step; \
    }                                                                  \
    for (auto& sum : c) asm volatile("" ::"x"(sum));                   \
    return static_cast<double>(kVectorLoops) * kChains * operations;   \
  }
LOWRANK_PEAK(avx2_loop, "avx2,fma", __m256, _mm256_setzero_ps(), 16, c[j] = _mm256_fmadd_ps(a, a, c[j]))
LOWRANK_PEAK(avx512_loop, "avx512f", __m512, _mm512_setzero_ps(), 32, c[j] = _mm512_fmadd_ps(a, a, c[j]))
LOWRANK_PEAK(dot_loop, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), 64,
             c[j] = _mm512_dpbf16_ps(c[j], (__m512bh)a, (__m512bh)a))
#undef LOWRANK_PEAK

__attribute__((target("amx-tile,amx-bf16"))) double amx_loop() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  std::fill_n(config.row_bytes, 8, uint16_t{64});
  std::fill_n(config.rows, 8, uint8_t{16});
  asm volatile("" ::"r"(&config) : "memory");  // GCC's intrinsic declares a read of the first eight bytes only
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < kTileLoops; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(kTileLoops) * 4 * 2 * 16 * 16 * 32;
}

}  // namespace

PeakLoop peak_loop(Level level, Precision precision) {
  const bool bf16 = precision == Precision::bf16;
  if (level == Level::reference) return nullptr;
  if (level == Level::avx2) return avx2_loop;
  if (bf16 && level == Level::amx) return amx_loop;
  return bf16 && level == Level::avx512bf16 ? dot_loop : avx512_loop;
}
#elif defined(__aarch64__)
namespace {

/// More than the latency of a multiply-add times four units.
constexpr int kChains = 24;
constexpr int64_t kLoops = 500000;

double neon_loop() {
  float32x4_t c[kChains], a = vdupq_n_f32(0);
  for (auto& sum : c) sum = a;
  for (int64_t i = 0; i < kLoops; ++i) {
    asm volatile("" : "+w"(a));
    _Pragma("GCC unroll 24") for (int j = 0; j < kChains; ++j) c[j] = vfmaq_f32(c[j], a, a);
  }
  for (auto& sum : c) asm volatile("" ::"w"(sum));
  return static_cast<double>(kLoops) * kChains * 8;
}

#if defined(__clang__)
__attribute__((target("bf16")))
#else
__attribute__((target("arch=armv8.2-a+bf16")))
#endif
double mmla_loop() {
  float32x4_t c[kChains];
  bfloat16x8_t a = vreinterpretq_bf16_u16(vdupq_n_u16(0));
  for (auto& sum : c) sum = vdupq_n_f32(0);
  for (int64_t i = 0; i < kLoops; ++i) {
    asm volatile("" : "+w"(a));
    _Pragma("GCC unroll 24") for (int j = 0; j < kChains; ++j) c[j] = vbfmmlaq_f32(c[j], a, a);
  }
  for (auto& sum : c) asm volatile("" ::"w"(sum));
  return static_cast<double>(kLoops) * kChains * 32;
}

}  // namespace

PeakLoop peak_loop(Level level, Precision precision) {
  if (level == Level::reference) return nullptr;
  return level == Level::neonbf16 && precision == Precision::bf16 ? mmla_loop : neon_loop;
}
#else
PeakLoop peak_loop(Level, Precision) { return nullptr; }
#endif

}  // namespace lowrank::cpu
