#include "kernels/kernels.h"

#include <algorithm>

namespace lowrank {
namespace {

/// Pairs of a query and a key that it sees, over all sequences.
double pairs_of(const Heads& heads, std::span<const int32_t> seqlens, int64_t cached) {
  const double window = heads.window > 0 ? heads.window : 0;
  double pairs = 0;
  for (size_t s = 1; s < seqlens.size(); ++s) {
    const double queries = seqlens[s] - seqlens[s - 1];
    const double first = static_cast<double>(cached) + 1, last = static_cast<double>(cached) + queries;
    if (window == 0 || last <= window) {
      pairs += queries * (first + last) / 2;
    } else {
      const double growing = std::max(0.0, window - first);  // queries that see less than a window
      pairs += growing * (first + window - 1) / 2 + (queries - growing) * window;
    }
  }
  return pairs;
}

struct MultiplyAdds {
  double operator()(const GemmNt& k) const {
    double sum = 0;
    for (const Segment& s : k.segments) sum += product_adds(k.m, k.n, s.w.cols);
    return sum;
  }
  double operator()(const GroupedGemmNt& k) const {
    double sum = 0;
    for (const GemmNt& each : k.products) sum += (*this)(each);
    return sum;
  }
  double operator()(const GemmNn& k) const {
    double sum = 0;
    for (const Segment& s : k.segments) sum += product_adds(k.m, k.n, s.w.rows);
    return sum;
  }
  double operator()(const ReduceTokens& k) const { return product_adds(k.tokens, k.r, k.n); }
  double operator()(const Attention& k) const {
    return 2.0 * k.shape.heads * k.shape.head_dim * pairs_of(k.shape, k.host_seqlens, k.keys - k.tokens);
  }
  double operator()(const AttentionBackward& k) const {
    return 5.0 * k.shape.heads * k.shape.head_dim * pairs_of(k.shape, k.host_seqlens, 0);
  }
  double operator()(const AddPair& k) const {
    return product_adds(k.pair.rows, k.pair.cols, k.pair.rank + k.pair.rank2);
  }
  double operator()(const SplitPair& k) const {
    return product_adds(k.pair.rows, k.pair.cols, k.pair.rank + k.pair.rank2);
  }
  template <class Other>
  double operator()([[maybe_unused]] const Other& k) const {
    if constexpr (requires { k.multiply_adds(); }) return k.multiply_adds();
    return 0;
  }
};

#define LOWRANK_NAME(K) K::kName,
constexpr const char* kNames[] = {LOWRANK_KERNELS(LOWRANK_NAME)};
#undef LOWRANK_NAME

}  // namespace

void operands(const Kernel& kernel, Operands& see) {
  std::visit([&](const auto& k) { k.operands(see); }, kernel);
}

const void* value_of(const Kernel& kernel) {
  return std::visit([](const auto& k) -> const void* { return &k; }, kernel);
}

double multiply_adds(const Kernel& kernel) { return std::visit(MultiplyAdds{}, kernel); }

const char* name_of(const Kernel& kernel) { return kNames[kernel.index()]; }

std::vector<const char*> kernel_names() { return {std::begin(kNames), std::end(kNames)}; }

}  // namespace lowrank
