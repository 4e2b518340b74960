#include "core/factors.h"

namespace lowrank {

void fold_rows(const ScaledB& k, int64_t begin, int64_t end, float* out) {
  if (!k.d && !k.mask && !k.b_gain && !k.row_gains && k.active == k.rank) {  // one loop, of whole vectors
    const float factor = k.weight * k.scale;
    const float* const b = k.b;
    float* __restrict const to = out;
    for (int64_t i = begin * k.rank; i < end * k.rank; ++i) to[i] = factor * b[i];
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    const float row = k.weight * (k.b_gain ? k.scale * k.b_gain[i] : k.scale) * (k.row_gains ? k.row_gains[i] : 1);
    for (int64_t j = 0; j < k.active; ++j) {
      float factor = row;
      if (k.d) factor *= k.d[j];
      if (k.mask) factor *= k.mask[j];
      out[i * k.active + j] = factor * k.b[i * k.rank + j];
    }
  }
}

void fold_snapshot_rows(const SnapshotB& k, int64_t begin, int64_t end, float* out) {
  for (int64_t i = begin; i < end; ++i) {
    float* const to = out + 2 * i * k.rank;
    const float gain = k.row_gains ? k.row_gains[i] : 1;
    for (int64_t j = 0; j < k.rank; ++j) {
      to[j] = gain * k.own * k.b[i * k.rank + j];
      to[k.rank + j] = gain * k.taken * k.star[i * k.rank + j];
    }
  }
}

void pair_a_rows(const float* a, const float* a2, int64_t rank2, int64_t cols, int64_t begin, int64_t end, float* out) {
  for (int64_t row = begin; row < end; ++row) {
    const float* first = a + row / rank2 * cols;
    const float* second = a2 + row % rank2 * cols;
    float* __restrict to = out + row * cols;
    for (int64_t c = 0; c < cols; ++c) to[c] = first[c] * second[c];
  }
}

void fold_pair_rows(const PairB& k, int64_t begin, int64_t end, float* out) {
  for (int64_t o = begin; o < end; ++o) {
    const float* b = k.b + o * k.rank;
    const float* b2 = k.b2 + o * k.rank2;
    const float row = k.weight * k.scale * (k.row_gains ? k.row_gains[o] : 1);
    float* __restrict to = out + o * k.rank * k.rank2;
    for (int64_t i = 0; i < k.rank; ++i) {
      const float factor = row * b[i];
      for (int64_t j = 0; j < k.rank2; ++j) to[i * k.rank2 + j] = factor * b2[j];
    }
  }
}

void multiply_small(int64_t rows, int64_t inner, int64_t cols, const float* a, const float* b, float* out) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < cols; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < inner; ++j) sum += double{a[i * inner + j]} * b[j * cols + c];
      out[i * cols + c] = static_cast<float>(sum);
    }
}

}  // namespace lowrank
