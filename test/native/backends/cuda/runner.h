// Launches kernels in every execution that this machine has: emulated, with threads and blocks forward, in reverse and
// at random, with every access tracked, and what executions.h of other folders adds.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/emulate/machine.h"
#include "backends/cuda/launcher.h"
#include "backends/cuda/weight.h"
#include "check.h"

namespace lowrank::cuda {

/// A launcher over host memory: addresses are pointers.
class Runner : public Launcher {
 public:
  explicit Runner(std::string name) : name_(std::move(name)) {}
  /// With buffers in memory of somebody else's.
  Runner(std::string name, std::byte* room, size_t bytes) : name_(std::move(name)), memory_(room, bytes) {}
  const std::string& name() const { return name_; }
  const Card& card() const override { return card_; }
  /// Card that the launches after it are for.
  void set_card(const Card& card) { card_ = card; }
  const Weights& weights() const override { return weights_; }
  /// Weights that the launches after it name.
  void set_weights(const Weights& weights) { weights_ = weights; }
  DeviceMemory& memory() { return memory_; }

  /// Elements of NaN, which stay until the runner ends.
  template <class T>
  T* buffer(int64_t count) {
    return reinterpret_cast<T*>(memory_.allocate(count * int64_t{sizeof(T)}));
  }
  template <class T>
  T* buffer(const std::vector<T>& values) {
    T* const at = buffer<T>(static_cast<int64_t>(values.size()));
    if (!values.empty()) std::memcpy(at, values.data(), values.size() * sizeof(T));
    return at;
  }
  /// Memory of the test's own that kernels may touch too, such as one that is too large to fill.
  void lend(void* at, int64_t bytes) { lent_.push_back({static_cast<std::byte*>(at), bytes}); }
  const std::vector<DeviceMemory::Range>& lent() const { return lent_; }

  void zero(Ptr<std::byte> to, int64_t bytes) override {
    std::memset(device_pointer(to), 0, static_cast<size_t>(bytes));
  }
  void zero(const Matrix& to, int64_t rows, int64_t cols) override {
    for (int64_t row = 0; row < rows; ++row) zero(to.rows(row).data, cols * size_of(to.dtype));
  }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override {
    std::memcpy(device_pointer(to), from, static_cast<size_t>(bytes));
  }

 protected:
  Card card_;

 private:
  std::string name_;
  Weights weights_;
  DeviceMemory memory_;
  std::vector<DeviceMemory::Range> lent_;
};

/// The address of host memory, as kernels' values name it.
template <class T>
Ptr<T> address_of(T* at) {
  return Ptr<T>(reinterpret_cast<uint64_t>(at));
}

/// Workspace of just the bytes that a kernel may use, full of NaN.
template <class K>
Ptr<std::byte> room_for(Runner& runner, const K& kernel) {
  if constexpr (requires { workspace(runner.card(), kernel); })
    return address_of(runner.buffer<std::byte>(workspace(runner.card(), kernel)));
  else
    return {};
}

class EmulatedRunner final : public Runner {
 public:
  EmulatedRunner(std::string name, const emulate::Options& options) : Runner(std::move(name)), options_(options) {}

 private:
  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
              int64_t shared_bytes) override {
    options_.card = card_;
    options_.memory = &memory();
    emulate::launch(kernel, blocks, threads, args, args_bytes, shared_bytes, options_);
    ++options_.seed;
    const int64_t overrun = memory().overrun();
    if (overrun >= 0)
      throw emulate::Error(std::string(kernel) + ": wrote beside buffer " + std::to_string(overrun) + " of the test");
  }
  emulate::Options options_;
};

/// A way to run kernels. Others are added by a global Execution::Added, before tests begin.
struct Execution {
  std::string name;
  std::function<std::unique_ptr<Runner>()> make;  // null where the build does not have it

  static std::vector<Execution>& all() {
    static std::vector<Execution> executions = emulated();
    return executions;
  }
  struct Added {
    explicit Added(Execution execution) { all().push_back(std::move(execution)); }
  };

 private:
  static std::vector<Execution> emulated() {
    using emulate::Order;
    const std::pair<const char*, emulate::Options> kinds[] = {
        {"emulated forward", {.order = Order::forward, .late_copies = false}},
        {"emulated in reverse", {.order = Order::reverse}},
        {"emulated at random", {.order = Order::random, .seed = 7}},
        {"emulated and tracked", {.order = Order::random, .seed = 23, .tracked = true}},
    };
    std::vector<Execution> all;
    for (const auto& kind : kinds) {
      all.push_back({kind.first, [kind]() -> std::unique_ptr<Runner> {
                       if (kind.second.tracked && !emulate::has_tracked_kernels()) return nullptr;
                       return std::make_unique<EmulatedRunner>(kind.first, kind.second);
                     }});
    }
    return all;
  }
};

/// Calls body(runner) for every execution; failures name theirs.
template <class Body>
void for_each_execution(Body&& body) {
  for (const Execution& execution : Execution::all()) {
    const test::Scope scope(execution.name);
    try {
      if (const std::unique_ptr<Runner> runner = execution.make()) body(*runner);
    } catch (const std::exception& error) {
      test::report(execution.name.c_str(), 0, error.what());
    }
  }
}

}  // namespace lowrank::cuda
