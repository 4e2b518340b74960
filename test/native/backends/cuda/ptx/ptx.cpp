#include "backends/cuda/ptx/ptx.h"

#include <algorithm>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {

void Memory::add(const void* begin, int64_t bytes, bool writable) {
  const auto at = reinterpret_cast<uint64_t>(begin);
  allocations_[at] = {at, at + static_cast<uint64_t>(bytes), writable};
}

void Memory::remove(const void* begin) { allocations_.erase(reinterpret_cast<uint64_t>(begin)); }

const Memory::Allocation* Memory::find(uint64_t address, int64_t bytes) const {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  const Allocation& found = std::prev(after)->second;
  return address >= found.begin && address <= found.end && found.end - address >= static_cast<uint64_t>(bytes)
             ? &found
             : nullptr;
}

std::string Memory::describe(uint64_t address) const {
  auto after = allocations_.upper_bound(address);
  std::string text = "at " + std::to_string(address) + ", in no allocation";
  if (after == allocations_.begin()) return text;
  const Allocation& before = std::prev(after)->second;
  return text + "; the one before has " + std::to_string(before.end - before.begin) + " bytes, and this is " +
         std::to_string(address - before.begin) + " from its start";
}

struct Module::Contents {
  ModuleText text;
  std::unordered_map<std::string, std::vector<std::byte>> storage;  // of variables in global memory
  std::unordered_map<std::string, const void*> globals;
  Memory memory;
  std::map<std::string, std::unique_ptr<Kernel>, std::less<>> decoded;
};

Module::Module(std::string_view text) : contents_(std::make_unique<Contents>()) {
  contents_->text = parse(text);
  constexpr size_t kAlign = 256;
  for (const Variable& variable : contents_->text.variables) {
    if (variable.space != Space::global) continue;
    auto& bytes = contents_->storage[variable.name];
    bytes.resize(static_cast<size_t>(variable.bytes) + 2 * kAlign);
    auto at = (reinterpret_cast<uintptr_t>(bytes.data()) + kAlign - 1) / kAlign * kAlign;
    std::copy(variable.value.begin(), variable.value.end(), reinterpret_cast<std::byte*>(at));
    contents_->globals[variable.name] = reinterpret_cast<const void*>(at);
    contents_->memory.add(reinterpret_cast<const void*>(at), variable.bytes);
  }
}

Module::~Module() = default;
Module::Module(Module&&) noexcept = default;
Module& Module::operator=(Module&&) noexcept = default;

std::vector<std::string> Module::kernels() const {
  std::vector<std::string> names;
  for (const KernelText& kernel : contents_->text.kernels) names.push_back(kernel.name);
  return names;
}

bool Module::has(std::string_view kernel) const {
  return std::any_of(contents_->text.kernels.begin(), contents_->text.kernels.end(),
                     [&](const KernelText& text) { return text.name == kernel; });
}

const Kernel& Module::kernel(std::string_view name) const {
  if (const auto found = contents_->decoded.find(name); found != contents_->decoded.end()) return *found->second;
  for (const KernelText& text : contents_->text.kernels) {
    if (text.name != name) continue;
    auto kernel = std::make_unique<Kernel>();
    kernel->text = text;
    kernel->globals = &contents_->memory;
    kernel->files = &contents_->text.files;
    kernel->limits.param_bytes = text.param_bytes;
    const auto& threads = text.exact_threads.empty() ? text.most_threads : text.exact_threads;
    if (!threads.empty()) {
      kernel->limits.threads = 1;
      for (const int64_t n : threads) kernel->limits.threads *= n;
    }
    Decoder(*kernel, contents_->text, contents_->globals).run();
    return *contents_->decoded.emplace(std::string(name), std::move(kernel)).first->second;
  }
  throw Unsupported("the PTX has no kernel " + std::string(name));
}

const Limits& limits(const Kernel& kernel) { return kernel.limits; }

namespace {

void check_launch(const Launch& launch) {
  const Kernel& kernel = launch.kernel;
  const auto fault = [&](const std::string& what) { throw Fault("launch", kernel.text.name + ": " + what); };
  const int64_t threads = launch.block.x * launch.block.y * launch.block.z;
  if (threads < 1 || threads > kernel.limits.threads) {
    fault(std::to_string(threads) + " threads in a block; at most " + std::to_string(kernel.limits.threads));
  }
  if (!kernel.text.exact_threads.empty() && threads != kernel.limits.threads) {
    fault(std::to_string(threads) + " threads in a block; expected " + std::to_string(kernel.limits.threads));
  }
  if (static_cast<int64_t>(launch.args.size()) != kernel.limits.param_bytes) {
    fault(std::to_string(launch.args.size()) + " bytes of arguments; the kernel has " +
          std::to_string(kernel.limits.param_bytes));
  }
  if (launch.grid.x < 1 || launch.grid.y < 1 || launch.grid.z < 1 || launch.grid.x > 0x7fffffff ||
      launch.grid.y > 65535 || launch.grid.z > 65535) {
    fault("a grid of (" + std::to_string(launch.grid.x) + ", " + std::to_string(launch.grid.y) + ", " +
          std::to_string(launch.grid.z) + ") blocks");
  }
  if (launch.shared_bytes > 0 && !kernel.limits.dynamic_shared)
    fault("dynamic shared memory, which the kernel has no array for");
}

}  // namespace

Report launch(const Kernel& kernel, Dimensions grid, Dimensions block, int64_t shared_bytes,
              std::span<const std::byte> args, const Memory& memory, const Options& options) {
  Launch made{kernel, grid, block, shared_bytes, args, memory, options, std::mt19937_64(options.seed)};
  check_launch(made);
  if (options.traffic) made.traffic.resize(kernel.code.size());
  std::vector<Dimensions> blocks = options.only;
  if (blocks.empty()) {
    for (int64_t z = 0; z < grid.z; ++z) {
      for (int64_t y = 0; y < grid.y; ++y) {
        for (int64_t x = 0; x < grid.x; ++x) blocks.push_back({x, y, z});
      }
    }
  }
  if (options.blocks == Order::reverse) std::reverse(blocks.begin(), blocks.end());
  if (options.blocks == Order::random) std::shuffle(blocks.begin(), blocks.end(), made.random);
  Block runner(made);
  for (const Dimensions& index : blocks) {
    runner.index = index;
    ++runner.sequence;
    runner.run();
  }
  for (size_t pc = 0; pc < made.traffic.size(); ++pc) {
    if (made.traffic[pc].requests == 0) continue;
    made.traffic[pc].instruction = kernel.describe(static_cast<uint32_t>(pc));
    made.report.traffic.push_back(std::move(made.traffic[pc]));
  }
  return std::move(made.report);
}

}  // namespace lowrank::test::ptx
