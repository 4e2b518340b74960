#include "quant/four_bit.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/processor.h"

namespace lowrank {
namespace {

constexpr int kHalf = kCodeBlock / 2;

// Midpoints of neighboring NF4 values in float32; a weight on a threshold takes the lower code.
constexpr float kNf4Thresholds[15] = {
    -0.8480963707f, -0.6106328964f, -0.4599952698f, -0.3396794200f, -0.2346073985f,
    -0.1379117370f, -0.0455250181f, 0.0397901498f,  0.1202552468f,  0.2035212517f,
    0.2920137644f,  0.3893125355f,  0.5016634464f,  0.6427869201f,  0.8614784479f,
};

// Thresholds of FP4's magnitudes, in rising order; a magnitude on a threshold takes the lower one. They are those of
// bitsandbytes' CUDA kernel: its CPU version takes midpoints, which differ in the last bits.
constexpr float kFp4Thresholds[7] = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f,
                                     0.4166667f,  0.583333f,  0.8333333f};

template <FourBit kType>
[[gnu::always_inline]] inline int32_t code_of(float x) {
  int32_t above = 0;
  if constexpr (kType == FourBit::nf4) {
    for (const float threshold : kNf4Thresholds) above += x > threshold ? 1 : 0;
    return above;
  } else {
    const float magnitude = std::fabs(x);
    for (const float threshold : kFp4Thresholds) above += magnitude > threshold ? 1 : 0;
    // The i-th magnitude has the code 0, 1, 6, 7, 4, 5, 2, 3.
    return (above & 1) | ((4 - (above >> 1)) & 3) << 1 | (x < 0 ? 8 : 0);
  }
}

// One block. Plain loops without branches: the compiler vectorizes them for each instruction set below.
template <FourBit kType>
[[gnu::always_inline]] inline bool quantize_block(const float* weights, uint8_t* codes, float* absmax) {
  int32_t largest = 0;  // the bits of non-negative floats order like integers, NaN above infinity
  for (int i = 0; i < kCodeBlock; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(weights[i]) & 0x7fffffff);
  }
  *absmax = std::bit_cast<float>(largest);
  // The reciprocal of a subnormal may be infinite; such a block is treated as zero.
  const float inverse = largest < 0x00800000 ? 0.0f : 1.0f / *absmax;
  int32_t code[kCodeBlock];
  for (int i = 0; i < kCodeBlock; ++i) {
    code[i] = code_of<kType>(weights[i] * inverse);
  }
  for (int i = 0; i < kHalf; ++i) codes[i] = static_cast<uint8_t>(code[i] | (code[i + kHalf] << 4));
  return largest < 0x7f800000;
}

template <FourBit kType>
[[gnu::always_inline]] inline int64_t quantize_blocks(const float* weights, int64_t blocks, uint8_t* codes,
                                                      float* absmax) {
  int64_t bad = -1;
  for (int64_t b = blocks - 1; b >= 0; --b) {
    if (!quantize_block<kType>(weights + b * kCodeBlock, codes + b * kHalf, absmax + b)) bad = b;
  }
  return bad;
}

template <FourBit kType>
int64_t quantize_blocks_baseline(const float* weights, int64_t blocks, uint8_t* codes, float* absmax) {
  return quantize_blocks<kType>(weights, blocks, codes, absmax);
}

#if defined(__x86_64__)
template <FourBit kType>
[[gnu::target("avx2")]] int64_t quantize_blocks_avx2(const float* weights, int64_t blocks, uint8_t* codes,
                                                     float* absmax) {
  return quantize_blocks<kType>(weights, blocks, codes, absmax);
}
#endif

using QuantizeBlocks = int64_t (*)(const float*, int64_t, uint8_t*, float*);

// Every version gives the same bits: the operations on an element are the same and none is fused.
template <FourBit kType>
QuantizeBlocks choose() {
#if defined(__x86_64__)
  if (instruction_sets().avx2) return quantize_blocks_avx2<kType>;
#endif
  return quantize_blocks_baseline<kType>;
}

/// The sum of torch over `kLanes` values at a time.
template <int kLanes>
float cascade_sum(const float* values, int64_t count) {
  constexpr int kStreams = 4;  // vectors summed side by side
  constexpr int kColumns = kLanes * kStreams;
  constexpr int kLevels = 4;
  const int64_t vectors = count / kLanes;
  const int64_t rows = vectors / kStreams;
  // A level passes its sums on after 2^shift additions.
  const int log2_rows = rows <= 1 ? 0 : std::bit_width(static_cast<uint64_t>(rows - 1));
  const int shift = std::max(4, log2_rows / kLevels);
  const int64_t step = int64_t{1} << shift;

  std::array<std::array<float, kColumns>, kLevels> sums{};
  const auto add_row = [&](const float* row) {
    for (int c = 0; c < kColumns; ++c) sums[0][c] += row[c];
  };
  int64_t row = 0;
  while (row + step <= rows) {
    for (const int64_t end = row + step; row < end; ++row) add_row(values + row * kColumns);
    for (int level = 1; level < kLevels; ++level) {
      for (int c = 0; c < kColumns; ++c) sums[level][c] += sums[level - 1][c];
      sums[level - 1].fill(0);
      if (((row >> (level * shift)) & (step - 1)) != 0) break;
    }
  }
  for (; row < rows; ++row) add_row(values + row * kColumns);
  for (int level = 1; level < kLevels; ++level) {
    for (int c = 0; c < kColumns; ++c) sums[0][c] += sums[level][c];
  }

  float* total = sums[0].data();
  for (int64_t v = rows * kStreams; v < vectors; ++v) {
    for (int c = 0; c < kLanes; ++c) total[c] += values[v * kLanes + c];
  }
  for (int c = kLanes; c < kColumns; ++c) total[c % kLanes] += total[c];
  float sum = 0;
  for (int64_t i = vectors * kLanes; i < count; ++i) sum += values[i];
  for (int c = 0; c < kLanes; ++c) sum += total[c];
  return sum;
}

}  // namespace

int64_t quantize_four_bit(FourBit type, const float* weights, int64_t count, uint8_t* codes, float* absmax) {
  static const QuantizeBlocks nf4 = choose<FourBit::nf4>(), fp4 = choose<FourBit::fp4>();
  const QuantizeBlocks quantize = type == FourBit::nf4 ? nf4 : fp4;
  const int64_t whole = count / kCodeBlock;
  const int64_t bad = quantize(weights, whole, codes, absmax);
  const int64_t rest = count - whole * kCodeBlock;
  if (rest == 0) return bad;
  float padded[kCodeBlock] = {};
  std::copy_n(weights + whole * kCodeBlock, rest, padded);
  const bool good = quantize(padded, 1, codes + whole * kHalf, absmax + whole) < 0;
  return bad >= 0 || good ? bad : whole;
}

float mean_f32(const float* values, int64_t count) {
  const float sum = count < 8 ? cascade_sum<1>(values, count) : cascade_sum<8>(values, count);
  return sum / static_cast<float>(count);
}

float quantize_absmax(const float* absmax, int64_t blocks, uint8_t* codes, float* nested_absmax) {
  const float offset = mean_f32(absmax, blocks);
  std::array<float, 255> midpoints;
  for (int i = 0; i < 255; ++i) midpoints[i] = (kDynamicMap[i] + kDynamicMap[i + 1]) * 0.5f;
  for (int64_t begin = 0; begin < blocks; begin += kNestedBlock) {
    const int64_t end = std::min(blocks, begin + kNestedBlock);
    float largest = 0;
    for (int64_t b = begin; b < end; ++b) largest = std::max(largest, std::fabs(absmax[b] - offset));
    nested_absmax[begin / kNestedBlock] = largest;
    const float inverse = largest < 0x1p-126f ? 0.0f : 1.0f / largest;
    for (int64_t b = begin; b < end; ++b) {
      const float x = std::clamp((absmax[b] - offset) * inverse, -1.0f, 1.0f);
      // The code is the number of midpoints below x, so a tie takes the lower one.
      codes[b] = static_cast<uint8_t>(std::lower_bound(midpoints.begin(), midpoints.end(), x) - midpoints.begin());
    }
  }
  return offset;
}

}  // namespace lowrank
