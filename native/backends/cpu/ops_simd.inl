// The element-wise and row-wise kernels over the vectors of one instruction set. Included once per level, inside its
// target region and namespace, after vec_<isa>.h and vec_math.inl.

static void embedding(Pool& pool, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table,
                      const Matrix& out) {
  for_rows(pool, tokens, cols, [&](int64_t row) {
    float* to = row_as<float>(out, row);
    if (table.dtype == DType::f16) {
      convert_row(row_as<F16>(table, ids[row]), to, cols);
    } else if (table.dtype == DType::bf16) {
      convert_row(row_as<Bf16>(table, ids[row]), to, cols);
    } else {
      std::memcpy(to, row_as<float>(table, ids[row]), static_cast<size_t>(cols) * 4);
    }
  });
}

#include "backends/cpu/areas.inl"

static constexpr OpKernels table = {
    .embedding = embedding,
};

#include "backends/cpu/table.inl"

#undef LOWRANK_ELEMENT
