// Row norms of a stored weight plus a low-rank update, computed from the rows.
#pragma once

#include "quant/weight.h"

namespace lowrank {

/// ||W_i + B_i A||^2 of row i in double, formed a piece at a time; `a` is [rank, cols] with `a_ld` elements from row to
/// row.
double adapted_row_square(const WeightView& w, int64_t row, const float* a, int64_t a_ld, const float* b_row,
                          int64_t rank);

}  // namespace lowrank
