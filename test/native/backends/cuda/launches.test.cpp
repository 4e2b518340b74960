// Arguments of kernels that a forward pass launches have no padding: equal ones are equal bytes.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#endif
#include "backends/cuda/gemm.h"
#include "backends/cuda/product.h"
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#include "backends/cuda/launches.h"
#include "check.h"

namespace lowrank::cuda {
namespace {

struct SomeArgs {
  int64_t count;
  float* to;
  float value;
  int32_t unused = 0;
};

TEST("launches are equal where kernels, blocks, and arguments are") {
  const auto list = [](float value, int64_t blocks, int threads) {
    Launches made;
    const SomeArgs args{3, nullptr, value};
    made.add({"one", nullptr, {2}, 32, 0}, &args, sizeof args);
    made.add({"two", nullptr, {blocks}, threads, 0}, &args, sizeof args);
    return made;
  };
  CHECK(list(1, 2, 32) == list(1, 2, 32));
  CHECK(!(list(1, 2, 32) == list(2, 2, 32)));
  CHECK(!(list(1, 2, 32) == list(1, 3, 32)));
  CHECK(!(list(1, 2, 32) == list(1, 2, 64)));
  Launches more = list(1, 2, 32);
  const float unaligned[3] = {1, 2, 3};
  more.add({"three", nullptr, {}, 32, 0}, unaligned, sizeof unaligned);
  CHECK(!(more == list(1, 2, 32)));
  int seen = 0;
  more.each([&](const Launches::Launch& launch, const void* args) {
    ++seen;
    if (seen == 3) CHECK(std::string(launch.kernel) == "three" && static_cast<const float*>(args)[2] == 3);
  });
  CHECK_EQ(seen, 3);
  more.clear();
  CHECK(more.empty() && more == Launches());
}

}  // namespace
}  // namespace lowrank::cuda
