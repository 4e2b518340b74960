#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/reference.h"

namespace lowrank::cpu {
namespace {

/// each(row, column, first, second) with every element of the two products of a pair.
template <class Each>
void for_pair(const Cpu& cpu, const Pair& pair, Each&& each) {
  const auto product = [&](const float* b, const float* a, int64_t rank, int64_t row, int64_t column) {
    double sum = 0;
    for (int64_t j = 0; j < rank; ++j) sum += double{b[row * rank + j]} * a[j * pair.cols + column];
    return sum;
  };
  cpu.pool.for_range(pair.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t i = 0; i < pair.cols; ++i)
        each(o, i, product(host(pair.b), host(pair.a), pair.rank, o, i),
             product(host(pair.b2), host(pair.a2), pair.rank2, o, i));
  });
}

double gain(Ptr<float> gains, int64_t row) { return gains ? host(gains)[row] : 1; }

}  // namespace

void reference(const Cpu& cpu, const AddPair& k) {
  const WeightView w = view(cpu, k.base);
  for_pair(cpu, k.pair, [&](int64_t o, int64_t i, double first, double second) {
    float base = 0;
    if (w.rows > 0) decode_row(w, o, i, 1, &base);
    host(k.out)[o * k.pair.cols + i] =
        static_cast<float>(base + double{k.scale} * gain(k.row_gains, o) * first * second);
  });
}

void reference(const Cpu& cpu, const SplitPair& k) {
  for_pair(cpu, k.pair, [&](int64_t o, int64_t i, double first, double second) {
    const int64_t at = o * k.pair.cols + i;
    const double change = double{host(k.g)[at]} * gain(k.row_gains, o);
    host(k.g)[at] = static_cast<float>(change * second);
    host(k.second)[at] = static_cast<float>(change * first);
  });
}

}  // namespace lowrank::cpu
