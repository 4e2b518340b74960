// 8-bit row-wise quantization as bitsandbytes stores LLM.int8 weights (arXiv 2208.07339): one fp32 absmax per row.
#pragma once

#include <cstdint>

namespace lowrank {

/// Quantizes a row of `count` weights into `codes` and returns its absmax: code = w * (1 / absmax * 127), rounded to
/// nearest even. A row of zeros has absmax 0. Not finite when a weight is not; the codes then mean
/// nothing.
float quantize_int8(const float* weights, int64_t count, int8_t* codes);

}  // namespace lowrank
