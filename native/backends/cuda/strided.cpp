#include <algorithm>

#include "backends/cuda/strided.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kLeastTerms = 256;  // of a stretch
constexpr int64_t kMostStretches = 256;
constexpr int64_t kMostSums = int64_t{1} << 20;  // elements of all stretches, where one has fewer

}  // namespace

void multiply(Launcher& launcher, StridedProductArgs args) {
  if (args.stretches == 0) {
    args.stretches = 1;
    args.stretch = args.outer * args.inner;
  }
  const int cols = args.n <= 32 ? 16 : 64;
  const int64_t tiles = ceil_div(args.m, kProductRows) * ceil_div(args.n, cols);
  launcher.launch(cols == 16 ? product_16 : product_64, {tiles * args.batches * args.stretches}, product_threads(cols),
                  args);
}

int64_t stretches_of(int64_t terms, int64_t elements) {
  const int64_t most = std::clamp<int64_t>(kMostSums / std::max<int64_t>(elements, 1), 1, kMostStretches);
  return std::clamp<int64_t>(ceil_div(terms, kLeastTerms), 1, most);
}

int64_t stretches_bytes(int64_t terms, int64_t elements) {
  return round_up(stretches_of(terms, elements) * elements * 4, 256);
}

void add_product(Launcher& launcher, StridedProductArgs args, Ptr<float> to, Ptr<std::byte> workspace) {
  const int64_t terms = args.outer * args.inner, elements = args.batches * args.m * args.n;
  if (terms == 0 || elements == 0) return;
  args.stretch = ceil_div(terms, stretches_of(terms, elements));
  args.stretches = ceil_div(terms, args.stretch);
  args.out = strided(workspace.as<float>());
  args.out.batch = args.m * args.n;
  args.out.low = 0;
  args.out.high = args.n;
  args.out.inner = 1;
  args.out.outer = elements;
  multiply(launcher, args);
  add_sums(launcher, elements, args.stretches, workspace.as<float>(), to);
}

}  // namespace lowrank::cuda
