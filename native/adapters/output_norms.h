// Output norm of an adapter at a layer: the sum of ||F h||^2 over tokens, computed from the second moment of h = A x
// with the folded matrix F, without forming the full-width output.
#pragma once

#include <cstdint>

namespace lowrank {

/// <F^T F, moment> with F [rows, rank]: the sum of ||F h||^2 over the tokens of the moment.
double output_norm(int64_t rows, int64_t rank, const float* folded, const double* moment);

}  // namespace lowrank
