// The kernels that the stand-in driver knows.
#include "backends/cuda/emulate/machine.h"
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

void each_kernel(const std::function<void(const Kernel& kernel)>& add_kernel) {
  add_kernel({"standin_add", sizeof(AddArgs), 256, add});
  add_kernel({"standin_copy", sizeof(CopyArgs), 256, copy});
  for (const cuda::emulate::Entry& entry : cuda::emulate::all_kernels()) {
    if (entry.tracked) continue;
    add_kernel({entry.name, entry.args_bytes, entry.most_threads,
                [name = std::string(entry.name), bytes = entry.args_bytes](const Launch& launch) {
                  cuda::emulate::Options options;
                  if (launch.seed != 0) options.order = cuda::emulate::Order::random;
                  options.seed = launch.seed;
                  const cuda::Grid grid{launch.grid[0], launch.grid[1], launch.grid[2]};
                  cuda::emulate::launch(name.c_str(), grid, launch.threads, launch.args, bytes, launch.shared_bytes,
                                        options);
                }});
  }
}

}  // namespace lowrank::test::standin
