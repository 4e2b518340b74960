// Runs the kernels as two compilers translated them, and in no other way, where LOWRANK_CUDA_PTX names the folder that
// `scripts/cuda.mjs ptx --out FOLDER` filled. With LOWRANK_CUDA_TRAFFIC=FILE it writes what the best of the larger
// launches of each kernel moved.
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

/// Sectors and wavefronts that a launch moved, and the least that they could have been.
struct Moved {
  std::array<int64_t, 2> loads{}, stores{}, shared_loads{}, shared_stores{};
  int64_t sum(size_t i) const { return loads[i] + stores[i] + shared_loads[i] + shared_stores[i]; }
  double ratio() const { return static_cast<double>(sum(0)) / static_cast<double>(sum(1)); }
};

/// The one of the larger launches that is nearest to the least: tests have awkward shapes, too.
Moved best_of(const std::vector<Moved>& launches) {
  int64_t most = 0;
  for (const Moved& moved : launches) most = std::max(most, moved.sum(1));
  Moved best;
  for (const Moved& moved : launches) {
    if (moved.sum(1) == 0 || 4 * moved.sum(1) < most) continue;
    if (best.sum(1) == 0 || moved.ratio() < best.ratio()) best = moved;
  }
  return best;
}

/// Written when the process ends.
class TrafficFile {
 public:
  explicit TrafficFile(const char* path) : path_(path) {}
  ~TrafficFile() {
    std::ofstream out(path_);
    const char* between = "{\n";
    for (const auto& [name, launches] : launches_) {
      const Moved moved = best_of(launches);
      out << between << "\"" << name << "\":{\"work\":" << moved.sum(1);
      between = ",\n";
      const auto pair = [&](const char* key, const std::array<int64_t, 2>& counts) {
        out << ",\"" << key << "\":[" << counts[0] << "," << counts[1] << "]";
      };
      pair("loads", moved.loads);
      pair("stores", moved.stores);
      pair("shared_loads", moved.shared_loads);
      pair("shared_stores", moved.shared_stores);
      out << "}";
    }
    out << (launches_.empty() ? "{}" : "}") << "\n";
  }
  void add(const std::string& kernel, const ptx::Report& report) {
    Moved moved;
    for (const ptx::Traffic& traffic : report.traffic) {
      auto& global = traffic.stores_global ? moved.stores : moved.loads;
      auto& shared = traffic.stores_shared ? moved.shared_stores : moved.shared_loads;
      global[0] += traffic.sectors, global[1] += traffic.least_sectors;
      shared[0] += traffic.wavefronts, shared[1] += traffic.least_wavefronts;
    }
    launches_[kernel].push_back(moved);
  }

 private:
  std::string path_;
  std::map<std::string, std::vector<Moved>> launches_;
};

TrafficFile* traffic_file() {
  static const char* const path = std::getenv("LOWRANK_CUDA_TRAFFIC");
  if (!path) return nullptr;
  static TrafficFile file(path);
  return &file;
}

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
    const ptx::Report report = ptx::launch(kernels_.at(kernel), {blocks.x, blocks.y, blocks.z}, {threads, 1, 1},
                                           shared_bytes, bytes, allocations, options_);
    if (options_.traffic) traffic_file()->add(kernel, report);
    ++options_.seed;
  }

  const Kernels& kernels_;
  ptx::Options options_;
};

/// Two compilers in two orders; conflicts between threads are found in either.
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
  Execution::all().clear();
  ptx::Options options;
  // Lanes that part meet again in this order alone, and then count as one access.
  options.traffic = traffic_file() != nullptr;
  add("PTX of nvcc", "nvcc", options);
  options.traffic = false;
  options.threads = options.blocks = ptx::Order::reverse;
  add("PTX of NVRTC", "nvrtc", options);
  return true;
}

[[maybe_unused]] const bool added = add_executions();

}  // namespace
}  // namespace lowrank::cuda
