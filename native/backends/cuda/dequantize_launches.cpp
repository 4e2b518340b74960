#include "backends/cuda/dequantize_launches.h"

#include <algorithm>

#include "backends/cuda/dequantize.h"
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

struct Decoders {
  KernelOf<DequantizeArgs> f32, bf16;
  KernelOf<DecodeRowsArgs> rows;
};
// In the order of DeviceFormat.
#define LOWRANK_DECODERS(format) {dequantize_##format##_f32, dequantize_##format##_bf16, decode_rows_##format},
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
