// The reference level: every kernel as its definition reads, with sums and functions in double. Other levels are tested
// against it, and it is what runs where no vector level does.
#include "backends/cpu/kernels.h"
#include "backends/cpu/ops_common.h"
#include "core/random.h"

namespace lowrank::cpu {

uint32_t counter_hash(uint64_t key, uint64_t index) { return lowrank::counter_hash(key, index); }

namespace {

float get(const Matrix& matrix, int64_t row, int64_t col) {
  return load_element(row_of(matrix, row), matrix.dtype, col);
}
void set(const Matrix& matrix, int64_t row, int64_t col, double value) {
  store_element(row_of(matrix, row), matrix.dtype, col, static_cast<float>(value));
}

template <class Body>
void for_rows(Pool& pool, int64_t rows, int64_t cols, Body&& body) {
  pool.for_range(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

void embedding(Pool& pool, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table, const Matrix& out) {
  for_rows(pool, tokens, cols, [&](int64_t row) {
    for (int64_t col = 0; col < cols; ++col) set(out, row, col, get(table, ids[row], col));
  });
}

}  // namespace

const OpKernels ops_reference = {
    .embedding = embedding,
};

}  // namespace lowrank::cpu
