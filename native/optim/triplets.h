// Triplets of AdaLoRA (arXiv 2303.10512): row i of A, element i of d, and column i of B represent a singular value with
// its vectors. A regularizer keeps the vectors nearly orthogonal; moving averages measure each triplet's importance.
#pragma once

#include <cstdint>
#include <vector>

#include "adapters/adapter.h"
#include "core/pool.h"
#include "optim/launcher.h"

namespace lowrank {

/// Adds the regularizer's gradient for every triplet to those of its A and B; with `only`, only for that parameter.
void add_orthogonal_gradients(Launcher& launch, const Adapter& adapter, int only = -1);

/// Updates the importance of every element of the triplets after an update; does nothing once they were dropped. With
/// `only`, just for one parameter.
void follow_importances(Launcher& launch, const Adapter& adapter, float clip, int only = -1);

/// Scores of all triplets, in the order of the spec: sensitivity * uncertainty of d_i, plus its mean over row i of A,
/// plus its mean over column i of B. Throws Error("CONFIG") once the importances were dropped.
std::vector<double> triplet_scores(Pool& pool, const Adapter& adapter);

/// Sets d to zero in the triplets whose entry in `keep`, in the order of `triplet_scores`, is 0. Throws Error("SHAPE")
/// for another length.
void prune_triplets(Adapter& adapter, const std::vector<uint8_t>& keep);

}  // namespace lowrank
