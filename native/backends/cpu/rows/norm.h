// Groups of columns of a norm.
#pragma once

#include <initializer_list>

#include "backends/cpu/table.h"

namespace lowrank::cpu {

/// Calls body(kernel) with each group of columns as a row: once if no matrix has gaps between its rows, else once for
/// each row.
template <class K, class Body>
void for_groups(const K& all, std::initializer_list<Matrix K::*> matrices, Body&& body) {
  if (all.groups == 1) return body(all);
  bool dense = true;
  for (const auto m : matrices) dense = dense && (all.*m).ld == all.groups * all.cols;
  const int64_t step = dense && all.rows > 0 ? all.rows : 1;
  for (int64_t row = 0; row < all.rows; row += step) {
    K k = all;
    k.rows = step * all.groups;
    k.groups = 1;
    k.rstd = all.rstd + row * all.groups;
    for (const auto m : matrices) (k.*m) = {(all.*m).rows(row).data, (all.*m).dtype, all.cols};
    body(k);
  }
}

}  // namespace lowrank::cpu
