#include <algorithm>

#include "backends/cpu/reference.h"
#include "quant/weight.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const TimesWeight& k) {
  constexpr int64_t kPiece = 1024;  // elements that are decoded at a time
  const WeightView w = view(cpu, k.w);
  float* const values = host(k.values);
  for_rows(cpu, w.rows, w.cols, [&](int64_t row) {
    float piece[kPiece];
    for (int64_t begin = 0; begin < w.cols; begin += kPiece) {
      const int64_t count = std::min(kPiece, w.cols - begin);
      decode_row(w, row, begin, count, piece);
      float* const at = values + row * w.cols + begin;
      for (int64_t i = 0; i < count; ++i) at[i] = piece[i] * (k.own + at[i]);
    }
  });
}
int64_t workspace(const TimesWeight&, int) { return 0; }

}  // namespace lowrank::cpu
