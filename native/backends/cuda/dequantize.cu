#include "dequantize.h"

#include "decode.cuh"
#include "device.cuh"

namespace lowrank::cuda {
namespace {

template <DeviceFormat kFormat, class Out>
LOWRANK_DEVICE void dequantize(const DequantizeArgs& args) {
  const Codebooks books = codebooks_of<kFormat>(args.w);
  // Launches are cut so that this number of runs fits 32 bits.
  const auto runs = static_cast<uint32_t>((args.columns + 7) / 8);
  const auto all = static_cast<uint32_t>(args.w.rows) * runs;
  const uint32_t begin = blockIdx.x * (kDequantizeThreads * kDequantizeRuns) + threadIdx.x;
#pragma unroll
  for (uint32_t i = 0; i < kDequantizeRuns; ++i) {
    const uint32_t run = begin + i * kDequantizeThreads;
    if (run >= all) return;
    const int64_t row = run / runs, column = int64_t{run % runs} * 8;
    float values[8];
    decode_eight<kFormat>(args.w, books, stored_row(args.w, row), args.column + column, values);
    store_eight(static_cast<Out*>(args.out) + row * args.ld + column, values, args.columns - column);
  }
}

template <DeviceFormat kFormat>
LOWRANK_DEVICE void decode_rows(const DecodeRowsArgs& args) {
  const Codebooks books = codebooks_of<kFormat>(args.w);
  const int64_t token = blockIdx.x, row = stored_row(args.w, args.ids[token]);
  for (int64_t column = int64_t{threadIdx.x} * 8; column < args.w.cols; column += int64_t{blockDim.x} * 8) {
    float values[8];
    decode_eight<kFormat>(args.w, books, row, column, values);
    store_eight(args.out + token * args.ld + column, values, args.w.cols - column);
  }
}

}  // namespace

#define LOWRANK_DEQUANTIZE(format)                                                    \
  LOWRANK_KERNEL(dequantize_##format##_f32, DequantizeArgs, kDequantizeThreads, 4) {  \
    dequantize<DeviceFormat::format, float>(args);                                    \
  }                                                                                   \
  LOWRANK_KERNEL(dequantize_##format##_bf16, DequantizeArgs, kDequantizeThreads, 4) { \
    dequantize<DeviceFormat::format, __nv_bfloat16>(args);                            \
  }                                                                                   \
  LOWRANK_KERNEL(decode_rows_##format, DecodeRowsArgs, kDequantizeThreads, 4) {       \
    decode_rows<DeviceFormat::format>(args);                                          \
  }
LOWRANK_WEIGHT_FORMATS(LOWRANK_DEQUANTIZE)

}  // namespace lowrank::cuda
