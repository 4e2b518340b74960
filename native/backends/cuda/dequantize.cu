// Decoded weights, one kernel for each format: a block of rows and columns, or rows picked by number.
#include "device_weight.h"

namespace lowrank::cuda {

/// Threads of a block, and the runs of eight elements that each of them decodes.
inline constexpr int kDequantizeThreads = 256, kDequantizeRuns = 4;

/// out[i, j] = w[i, column + j].
struct DequantizeArgs {
  DeviceWeight w;
  int64_t column, columns;  // column: a multiple of 8
  void* out;
  int64_t ld;
};

/// out[t] = w[ids[t]], fp32; a block a row.
struct DecodeRowsArgs {
  DeviceWeight w;
  const int32_t* ids;
  float* out;
  int64_t ld;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
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

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/weight.h"

namespace lowrank::cuda {
namespace {

struct Decoders {
  KernelOf<DequantizeArgs> f32, bf16;
  KernelOf<DecodeRowsArgs> rows;
};
// In the order of DeviceFormat.
#define LOWRANK_DECODERS(format)                                                                                      \
  {kernel_of<DequantizeArgs>("dequantize_" #format "_f32"), kernel_of<DequantizeArgs>("dequantize_" #format "_bf16"), \
   kernel_of<DecodeRowsArgs>("decode_rows_" #format)},
constexpr Decoders kDecoders[] = {LOWRANK_WEIGHT_FORMATS(LOWRANK_DECODERS)};
#undef LOWRANK_DECODERS

const Decoders& decoders_of(DeviceFormat format) { return kDecoders[static_cast<int>(format)]; }

}  // namespace

void dequantize(Launcher& launcher, const DeviceWeight& w, int64_t column, int64_t columns, const Matrix& out) {
  const Decoders& decoders = decoders_of(w.format);
  const auto& kernel = out.dtype == DType::f32 ? decoders.f32 : decoders.bf16;
  constexpr int64_t kBlock = kDequantizeThreads * kDequantizeRuns;
  const int64_t runs = (columns + 7) / 8;
  const int64_t at_once = std::max<int64_t>(1, (int64_t{1} << 31) / std::max<int64_t>(runs, 1));
  for (int64_t row = 0; row < w.rows; row += at_once) {
    const int64_t count = std::min(at_once, w.rows - row);
    const DequantizeArgs args{rows_of(w, row, count), column, columns, device_pointer(out.rows(row).data), out.ld};
    launcher.launch(kernel, {(count * runs + kBlock - 1) / kBlock}, kDequantizeThreads, args);
  }
}

void run(Launcher& launcher, const DecodeRows& k, Ptr<std::byte>) {
  const DeviceWeight table = device_weight(launcher.weights(), k.table);
  const DecodeRowsArgs args{table, device_pointer(k.ids), device_pointer(k.out.data.as<float>()), k.out.ld};
  launcher.launch(decoders_of(table.format).rows, {k.tokens}, kDequantizeThreads, args);
}

}  // namespace lowrank::cuda

#endif
