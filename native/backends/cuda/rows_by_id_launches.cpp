#include "backends/cuda/rows_by_id_launches.h"

#include "backends/cuda/launch_cells.h"
#include "backends/cuda/rows_by_id.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const EmbeddingGradient& k, Ptr<std::byte>) {
  constexpr int64_t kCols = int64_t{kIdThreads} * kColumnsAtOnce;
  launcher.launch(embedding_gradient, {k.tokens, (k.cols + kCols - 1) / kCols}, kIdThreads,
                  {k.tokens, k.cols, device_pointer(k.ids), cells_of(k.dy), device_pointer(k.dtable)});
}

void run(Launcher& launcher, const GatherColumns& k, Ptr<std::byte>) {
  launcher.launch(gather_columns, blocks_of(k.tokens * k.ranks, kIdThreads), kIdThreads,
                  {k.tokens, k.ranks, k.vocab, device_pointer(k.ids), device_pointer(k.a), device_pointer(k.h)});
}

void run(Launcher& launcher, const ScatterColumns& k, Ptr<std::byte>) {
  launcher.launch(
      scatter_columns, {k.tokens}, kIdThreads,
      {k.tokens, k.first, k.ranks, k.vocab, device_pointer(k.ids), device_pointer(k.dh), device_pointer(k.da)});
}

}  // namespace lowrank::cuda
