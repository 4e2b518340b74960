// Output norm of an adapter at a linear: the sum of ||F h||^2 over tokens, from the second moment of h = A x alone, with
// F the folded matrix. Nothing of the output's width is formed.
#pragma once

#include <cstdint>

namespace lowrank {

/// <F^T F, moment> with F [rows, rank]: the sum of ||F h||^2 over the tokens of the moment.
double output_norm(int64_t rows, int64_t rank, const float* folded, const double* moment);

}  // namespace lowrank
