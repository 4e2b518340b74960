#include "quant/int8.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace lowrank {

float quantize_int8(const float* weights, int64_t count, int8_t* codes) {
  int32_t largest = 0;  // the bits of non-negative floats order like integers, NaN above infinity
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::bit_cast<int32_t>(weights[i]) & 0x7fffffff);
  const float absmax = std::bit_cast<float>(largest);
  if (largest >= 0x7f800000) return absmax;
  // torch divides a number by a tensor in these two roundings. For magnitudes near the smallest possible the result is
  // infinite; such a row is treated as zero.
  float scale = 1.0f / absmax * 127.0f;
  if (std::isinf(scale)) scale = 0;
  for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<int8_t>(std::nearbyintf(weights[i] * scale));
  return absmax;
}

}  // namespace lowrank
