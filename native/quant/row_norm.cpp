#include "quant/row_norm.h"

#include <algorithm>

namespace lowrank {

double adapted_row_square(const WeightView& w, int64_t row, const float* a, int64_t a_ld, const float* b_row,
                          int64_t rank) {
  constexpr int64_t kPiece = 256;  // elements that are decoded at a time
  float piece[kPiece];
  double sum = 0;
  for (int64_t begin = 0; begin < w.cols; begin += kPiece) {
    const int64_t count = std::min(kPiece, w.cols - begin);
    decode_row(w, row, begin, count, piece);
    for (int64_t c = 0; c < count; ++c) {
      double value = piece[c];
      for (int64_t j = 0; j < rank; ++j) value += double{b_row[j]} * a[j * a_ld + begin + c];
      sum += value * value;
    }
  }
  return sum;
}

}  // namespace lowrank
