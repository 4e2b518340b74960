// Runs the kernels as two compilers translated them, where LOWRANK_CUDA_PTX names the folder that
// `scripts/cuda.mjs ptx --out FOLDER` filled.
#include "backends/cuda/runner.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "backends/cuda/ptx/ptx.h"

namespace lowrank::cuda {
namespace {

namespace ptx = test::ptx;

/// Kernels of all files of a folder.
class Kernels {
 public:
  explicit Kernels(const std::filesystem::path& folder) {
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      if (file.path().extension() != ".ptx") continue;
      std::ifstream in(file.path());
      std::stringstream text;
      text << in.rdbuf();
      modules_.push_back(std::make_unique<ptx::Module>(text.str()));
      for (const std::string& name : modules_.back()->kernels()) by_name_[name] = modules_.back().get();
    }
  }
  const ptx::Kernel& at(const std::string& name) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) throw ptx::Unsupported("no PTX of " + name + "; `scripts/cuda.mjs ptx` makes it");
    return found->second->kernel(name);
  }

 private:
  std::vector<std::unique_ptr<ptx::Module>> modules_;
  std::map<std::string, ptx::Module*> by_name_;
};

class PtxRunner final : public Runner {
 public:
  PtxRunner(const std::string& name, const Kernels& kernels, const ptx::Options& options)
      : Runner(name), kernels_(kernels), options_(options) {}

 private:
  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
              int64_t shared_bytes) override {
    ptx::Memory allocations;
    for (const auto& range : memory().ranges()) allocations.add(range.begin, range.bytes);
    for (const auto& range : lent()) allocations.add(range.begin, range.bytes);
    const std::span bytes(static_cast<const std::byte*>(args), static_cast<size_t>(args_bytes));
    ptx::launch(kernels_.at(kernel), {blocks.x, blocks.y, blocks.z}, {threads, 1, 1}, shared_bytes, bytes, allocations, options_);
    ++options_.seed;
  }

  const Kernels& kernels_;
  ptx::Options options_;
};

/// Two compilers in two orders; conflicts between threads are found in any.
bool add_executions() {
  const char* folder = std::getenv("LOWRANK_CUDA_PTX");
  if (!folder) return false;
  const auto add = [&](const std::string& name, const char* compiler, const ptx::Options& options) {
    const auto path = std::filesystem::path(folder) / compiler;
    Execution::all().push_back({name, [name, path, options] {
                                  static std::map<std::filesystem::path, Kernels> loaded;
                                  const Kernels& kernels = loaded.try_emplace(path, path).first->second;
                                  return std::make_unique<PtxRunner>(name, kernels, options);
                                }});
  };
  ptx::Options options;
  options.threads = options.blocks = ptx::Order::random;
  add("PTX of nvcc", "nvcc", options);
  options.threads = options.blocks = ptx::Order::reverse;
  add("PTX of NVRTC", "nvrtc", options);
  return true;
}

[[maybe_unused]] const bool added = add_executions();

}  // namespace
}  // namespace lowrank::cuda
