// The rows of a head, of which each lane of a warp has every 32nd column.
#pragma once

#include "attention.h"
#include "device.cuh"

namespace lowrank::cuda {

/// Columns of a lane.
inline constexpr int kPerLane = kAttentionCols / 32;

template <class T>
LOWRANK_DEVICE const T* head_row(const void* data, int64_t row, int64_t ld, int head, int head_dim) {
  return static_cast<const T*>(data) + row * ld + int64_t{head} * head_dim;
}

}  // namespace lowrank::cuda
