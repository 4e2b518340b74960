#include "interpreted.h"

#include <utility>

namespace lowrank::test::standin {

InterpretedModule::InterpretedModule(const char* text, std::function<ptx::Memory()> allocations)
    : module_(std::make_shared<const ptx::Module>(text)), allocations_(std::move(allocations)) {}

std::optional<Kernel> InterpretedModule::kernel(const std::string& name) const {
  if (!module_->has(name)) return std::nullopt;
  const ptx::Limits& limits = ptx::limits(module_->kernel(name));
  const auto run = [module = module_, allocations = allocations_, name,
                    bytes = limits.param_bytes](const Launch& launch) {
    ptx::Options options;
    options.seed = launch.seed;
    if (launch.seed != 0) options.threads = options.blocks = ptx::Order::random;
    const std::span args(static_cast<const std::byte*>(launch.args), static_cast<size_t>(bytes));
    ptx::launch(module->kernel(name), {launch.grid[0], launch.grid[1], launch.grid[2]}, {launch.threads, 1, 1},
                launch.shared_bytes, args, allocations(), options);
  };
  return Kernel{name, limits.param_bytes, static_cast<int>(limits.threads), run};
}

}  // namespace lowrank::test::standin
