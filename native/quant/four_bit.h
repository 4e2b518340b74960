// NF4 and FP4 quantization as in bitsandbytes (QLoRA, arXiv 2305.14314): blocks of 64 over the flattened matrix, with
// one fp32 absmax per block, optionally quantized to 8 bits (double quantization). quant/weight.h describes the order
// of the codes.
#pragma once

#include "quant/weight.h"

namespace lowrank {

constexpr int64_t code_blocks(int64_t count) { return (count + kCodeBlock - 1) / kCodeBlock; }
constexpr int64_t nested_blocks(int64_t blocks) { return (blocks + kNestedBlock - 1) / kNestedBlock; }
/// Bytes of the codes of `count` weights in our storage: whole blocks.
constexpr int64_t code_bytes(int64_t count) { return code_blocks(count) * (kCodeBlock / 2); }

/// Quantizes `count` weights, starting at a block boundary, into `codes` [code_bytes(count)] and `absmax`
/// [code_blocks(count)]. A partial last block uses only its own weights and is padded with the code of 0.0; a block
/// whose absmax is below the smallest normal number consists of the code of 0.0. Returns -1, or the index of the first
/// block with a NaN or infinity, whose output is unspecified.
int64_t quantize_four_bit(FourBit type, const float* weights, int64_t count, uint8_t* codes, float* absmax);

/// Mean of `count` values in float32 with torch's single-threaded summation order: 32 interleaved sums (4 below 8
/// values), carried through four levels of partial sums and then added. (torch splits 32768 values and more between its
/// threads and then sums in another order, so the last bit of its mean depends on the machine.)
float mean_f32(const float* values, int64_t count);

/// Double quantization of `blocks` absmax values into `codes` [blocks] and `nested_absmax` [nested_blocks(blocks)]:
/// subtracts their mean, scales each group of 256 by its absmax, and takes the closest entry of kDynamicMap, the lower
/// one if tied. Returns the mean, the `absmax_offset` of the view.
float quantize_absmax(const float* absmax, int64_t blocks, uint8_t* codes, float* nested_absmax);

}  // namespace lowrank
