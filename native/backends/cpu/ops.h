// What is neither in the table of kernels (table.h) nor a matrix product with a stored weight.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/pool.h"

namespace lowrank::cpu {

/// A row-major [rows, cols] activation; `ld` elements from row to row.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t ld = 0;
};

struct OpKernels {
  /// out[t, c] = table[ids[t], c]; table is f32, bf16 or f16, out f32.
  void (*embedding)(Pool&, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table, const Matrix& out);
};

/// The keep decision behind `dropout`: uniform 32-bit hash of (key, index) compared with p * 2^32.
uint32_t counter_hash(uint64_t key, uint64_t index);

}  // namespace lowrank::cpu
