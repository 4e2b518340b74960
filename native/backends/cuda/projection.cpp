#include "backends/cuda/projection.h"

#include <algorithm>

#include "backends/cuda/launch_cells.h"
#include "backends/cuda/optimizers.h"

namespace lowrank::cuda {

int64_t workspace(const Card&, const ProjectGradient& k) {
  return (k.rank * k.rank + k.rank * k.rows) * int64_t{sizeof(double)};
}

void run(Launcher& launcher, const ProjectGradient& k, Ptr<std::byte> workspace) {
  double* const factor = device_pointer(workspace.as<double>());
  const double gain = 1 / (double{k.scale} * k.scale);
  const ProjectGradientArgs args{
      k.rank, k.cols, k.rows, device_pointer(k.a), gain, device_pointer(k.gradient), factor, factor + k.rank * k.rank};
  launcher.launch(project_gradient_gram, {k.rank, k.rank}, kProjectThreads, args);
  launcher.launch(project_gradient_factor, {k.rank > 0}, kProjectThreads, args);
  launcher.launch(project_gradient_solve, blocks_of(k.rows, kProjectThreads), kProjectThreads, args);
}

int64_t workspace(const Card&, const Orthogonal& k) {
  int64_t doubles = 0;
  for (const OrthogonalPiece& piece : k.pieces) doubles += piece.rank * piece.rank;
  return doubles * int64_t{sizeof(double)};
}

void run(Launcher& launcher, const Orthogonal& k, Ptr<std::byte> workspace) {
  double* product = device_pointer(workspace.as<double>());
  for (size_t begin = 0; begin < k.pieces.size(); begin += kMostOrthogonalPieces) {
    const auto some = k.pieces.subspan(begin, std::min<size_t>(kMostOrthogonalPieces, k.pieces.size() - begin));
    OrthogonalArgs args{};
    int64_t rank = 0, elements = 0;  // the most
    for (size_t i = 0; i < some.size(); ++i) {
      const OrthogonalPiece& piece = some[i];
      args.pieces[i] = {piece.rows,
                        piece.rank,
                        piece.transposed,
                        piece.weight,
                        device_pointer(piece.x),
                        device_pointer(piece.gradient),
                        product};
      product += piece.rank * piece.rank;
      rank = std::max(rank, piece.rank);
      elements = std::max(elements, piece.rows * piece.rank);
    }
    const auto count = static_cast<int64_t>(some.size());
    launcher.launch(orthogonal_product, {rank * rank, count}, kProjectThreads, args);
    launcher.launch(orthogonal_add, {blocks_of(elements, kProjectThreads).x, count}, kProjectThreads, args);
  }
}

}  // namespace lowrank::cuda
