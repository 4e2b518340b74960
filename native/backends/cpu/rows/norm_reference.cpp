#include "backends/cpu/rows/norm.h"

#include <cmath>

#include "backends/cpu/reference.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const RmsNorm& all) {
  for_groups(all, {&RmsNorm::x, &RmsNorm::y}, [&](const RmsNorm& k) {
    const float* const w = host(k.w);
    for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
      double squares = 0;
      for (int64_t col = 0; col < k.cols; ++col) squares += double{get(k.x, row, col)} * get(k.x, row, col);
      const double r = 1.0 / std::sqrt(squares / static_cast<double>(k.cols) + k.eps);
      for (int64_t col = 0; col < k.cols; ++col) set(k.y, row, col, get(k.x, row, col) * r * w[col]);
      host(k.rstd)[row] = static_cast<float>(r);
    });
  });
}

void reference(const Cpu& cpu, const RmsNormBackward& all) {
  using K = RmsNormBackward;
  for_groups(all, {&K::dy, &K::x, &K::dx}, [&](const K& k) {
    const float* const w = host(k.w);
    for_rows(cpu, k.rows, k.cols, [&](int64_t row) {
      const double r = host(k.rstd)[row];
      double mean = 0;
      for (int64_t col = 0; col < k.cols; ++col) mean += double{get(k.dy, row, col)} * w[col] * get(k.x, row, col);
      mean /= static_cast<double>(k.cols);
      for (int64_t col = 0; col < k.cols; ++col) {
        const double g = double{get(k.dy, row, col)} * w[col];
        const double before = k.dx.data.address() == k.dy.data.address() ? 0 : get(k.dx, row, col);
        set(k.dx, row, col, before + r * (g - get(k.x, row, col) * r * r * mean));
      }
    });
  });
}

/// The same at all levels; every element sums over the rows in order.
void reference(const Cpu& cpu, const NormGradient& all) {
  for_groups(all, {&NormGradient::dy, &NormGradient::x}, [&](const NormGradient& k) {
    const float* const rstd = host(k.rstd);
    float* const dw = host(k.dw);
    with_rows(k.dy, [&](auto gradient_of) {
      with_rows(k.x, [&](auto input_of) {
        for_columns(cpu, k.cols, [&](int64_t begin, int64_t end) {
          for (int64_t r = 0; r < k.rows; ++r) {
            const auto gradient = gradient_of(r);
            const auto input = input_of(r);
            for (int64_t c = begin; c < end; ++c) dw[c] += gradient(c) * input(c) * rstd[r];
          }
        });
      });
    });
  });
}
int64_t workspace(const NormGradient&, int) { return 0; }

}  // namespace lowrank::cpu
