// The kernels that the stand-in driver knows.
#include "standin.h"

namespace lowrank::test::standin {
namespace {

void add(const Launch& launch) {
  const auto& args = *static_cast<const AddArgs*>(launch.args);
  for (int64_t i = 0; i < args.count; ++i) args.to[i] += args.value;
}

void copy(const Launch& launch) {
  const auto& args = *static_cast<const CopyArgs*>(launch.args);
  for (int64_t i = 0; i < args.count; ++i) args.to[i] = args.from[i];
}

}  // namespace

void each_kernel(void (*add_kernel)(const Kernel& kernel)) {
  add_kernel({"standin_add", sizeof(AddArgs), 256, add});
  add_kernel({"standin_copy", sizeof(CopyArgs), 256, copy});
}

}  // namespace lowrank::test::standin
