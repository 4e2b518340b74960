// How much an adapter adds at a linear: the sum of ||F h||^2 over tokens, from the second moment of h = A x alone, with F
// the folded matrix. Nothing of the output's width is formed.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/pool.h"

namespace lowrank {

/// moment += sum over tokens of h h^T, [rank, rank] in double precision; h is [tokens, ld] of f32 or bf16.
void add_second_moment(Pool& pool, int64_t tokens, int64_t rank, const void* h, DType dtype, int64_t ld, double* moment);

/// <F^T F, moment> with F [rows, rank]: the sum of ||F h||^2 over the tokens of the moment.
double output_norm(int64_t rows, int64_t rank, const float* folded, const double* moment);

}  // namespace lowrank
