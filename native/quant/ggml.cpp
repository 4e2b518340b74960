#include "quant/ggml.h"

#include "core/dtype.h"

namespace lowrank {
namespace {

float half_at(const uint8_t* bytes) { return f32_from_f16(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8))); }

}  // namespace

void decode_q8_0(const void* in, int64_t count, float* out) {
  const auto* block = static_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < count; i += kGgmlBlock, block += kQ8_0Bytes) {
    const float d = half_at(block);
    const auto* q = reinterpret_cast<const int8_t*>(block + 2);
    for (int64_t j = 0; j < kGgmlBlock; ++j) out[i + j] = d * static_cast<float>(q[j]);
  }
}

void decode_q4_0(const void* in, int64_t count, float* out) {
  const auto* block = static_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < count; i += kGgmlBlock, block += kQ4_0Bytes) {
    const float d = half_at(block);
    const uint8_t* q = block + 2;
    for (int64_t j = 0; j < 16; ++j) out[i + j] = d * static_cast<float>((q[j] & 15) - 8);
    for (int64_t j = 0; j < 16; ++j) out[i + j + 16] = d * static_cast<float>((q[j] >> 4) - 8);
  }
}

void decode_q4_1(const void* in, int64_t count, float* out) {
  const auto* block = static_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < count; i += kGgmlBlock, block += kQ4_1Bytes) {
    const float d = half_at(block);
    const float m = half_at(block + 2);
    const uint8_t* q = block + 4;
    for (int64_t j = 0; j < 16; ++j) out[i + j] = d * static_cast<float>(q[j] & 15) + m;
    for (int64_t j = 0; j < 16; ++j) out[i + j + 16] = d * static_cast<float>(q[j] >> 4) + m;
  }
}

}  // namespace lowrank
