// The factors of a pair as kernels take them.
#pragma once

#include "backends/cuda/launcher.h"
#include "backends/cuda/pair.h"
#include "kernels/factors.h"

namespace lowrank::cuda {

inline PairOperands operands_of(const Pair& pair) {
  return {pair.rows,
          pair.cols,
          pair.rank,
          pair.rank2,
          device_pointer(pair.b),
          device_pointer(pair.a),
          device_pointer(pair.b2),
          device_pointer(pair.a2)};
}

}  // namespace lowrank::cuda
