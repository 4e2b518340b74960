// NF4 and FP4 quantization as bitsandbytes does it (QLoRA, arXiv 2305.14314): blocks of 64 over the flattened matrix, one fp32
// absmax a block, optionally quantized again to 8 bits (double quantization). Codes are stored in the order that
// quant/weight.h describes.
#pragma once

#include "quant/weight.h"

namespace lowrank {

constexpr int64_t code_blocks(int64_t count) { return (count + kCodeBlock - 1) / kCodeBlock; }
constexpr int64_t nested_blocks(int64_t blocks) { return (blocks + kNestedBlock - 1) / kNestedBlock; }
/// Bytes of the codes of `count` weights in our storage: whole blocks.
constexpr int64_t code_bytes(int64_t count) { return code_blocks(count) * (kCodeBlock / 2); }

/// Quantizes `count` weights that begin at a block's start into `codes` [code_bytes(count)] and `absmax`
/// [code_blocks(count)]. A last partial block uses its own weights only and is padded with the code of 0.0; a block
/// whose absmax is below the smallest normal number gets the code of 0.0 throughout. Returns -1, or the index of the
/// first weight's block that holds a NaN or an infinity; what is written for that block means nothing.
int64_t quantize_four_bit(FourBit type, const float* weights, int64_t count, uint8_t* codes, float* absmax);

/// Mean of `count` values in float32 with the summation order of torch on one thread: 32 interleaved sums (4 below
/// 8 values) that are carried through four levels of partial sums, then added up. (torch splits 32768 values and more
/// between its threads and then sums in another order, so the last bit of its mean depends on the machine.)
float mean_f32(const float* values, int64_t count);

/// Double quantization of `blocks` absmax values into `codes` [blocks] and `nested_absmax` [nested_blocks(blocks)]:
/// their mean is taken off, then each 256 are scaled by their absmax and get the nearest entry of kDynamicMap, the
/// lower one on ties. Returns the mean, the `absmax_offset` of the view.
float quantize_absmax(const float* absmax, int64_t blocks, uint8_t* codes, float* nested_absmax);

}  // namespace lowrank
