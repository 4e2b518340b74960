#include "adapters/optimizer_state.h"

#if defined(__linux__)
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "adapters/adapter.h"
#include "backends/cpu/device.h"
#include "backends/file_stash.h"
#include "check.h"
#include "core/error.h"
#include "host.h"
#include "optim/step.h"
#include "os/mapped_file.h"

using namespace lowrank;

namespace {

constexpr int64_t kMebi = 1 << 20;

/// Matrices of many sizes, 3.4 Mi numbers in all.
AdapterSpec spec_of(StateSpec state) {
  AdapterSpec spec;
  for (int i = 0; i < 24; ++i) {
    const std::string number = std::to_string(i);
    spec.parameters.push_back({"large" + number, 300 + i, 401, true});
    spec.parameters.push_back({"small" + number, 7, 11 + i, true});
    spec.parameters.push_back({"frozen" + number, 5, 5, false});
  }
  spec.parameters.push_back({"huge", 1001, 601, true});
  spec.trainable = true;
  spec.state = std::move(state);
  return spec;
}

StateSpec state_of(OptimizerKind kind, bool eight_bit, int64_t resident) {
  return {kind, true, eight_bit, resident, std::filesystem::temp_directory_path().string()};
}

void fill_gradient(const HostAdapter& adapter, int parameter, int64_t step, float* gradient) {
  const ParameterSpec& p = adapter.spec().parameters[parameter];
  for (int64_t j = 0; j < p.rows * p.cols; ++j)
    gradient[j] = static_cast<float>(draw(static_cast<uint64_t>(step * 1000 + parameter), j) - 0.5);
}

/// Updates after all gradients are there, or one by one as they come, from the last parameter.
void steps(HostAdapter& adapter, int threads, int64_t first, int64_t last) {
  Pool pool(threads);
  cpu::CpuDevice device(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(threads));
  OptimizerStep options;
  options.kind = adapter.spec().state.kind;
  options.beta1 = 0.9f;
  options.beta2 = 0.99f;
  options.epsilon = 1e-8f;
  options.groups = {{1e-2f, 0.1f}};
  const auto count = static_cast<int>(adapter.spec().parameters.size());
  std::vector<float> gradient;
  for (int64_t step = first; step <= last; ++step) {
    options.step = step;
    if (!adapter.spec().state.in_backward) {
      for (int i = 0; i < count; ++i)
        if (adapter.spec().trains(i)) fill_gradient(adapter, i, step, adapter.data(i, AdapterArray::gradient));
      optimizer_step(device, adapter, options);
      continue;
    }
    for (int i = count - 1; i >= 0; --i) {
      if (!adapter.spec().trains(i)) continue;
      adapter.state().will_need(i);
      gradient.resize(adapter.spec().parameters[i].rows * adapter.spec().parameters[i].cols);
      fill_gradient(adapter, i, step, gradient.data());
      adapter.place_gradient(i, cpu::address_of(gradient.data()));
      update_parameter(device, adapter, options, i);
      adapter.place_gradient(i, {});
    }
    adapter.state().settle();
  }
}

/// Every tensor of the state.
std::vector<std::vector<std::byte>> state_bytes(HostAdapter& adapter) {
  std::vector<std::vector<std::byte>> all;
  for (size_t i = 0; i < adapter.spec().parameters.size(); ++i)
    for (const StateTensor& tensor : adapter.state().tensors(static_cast<int>(i))) {
      std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes));
      adapter.state().read(static_cast<int>(i), tensor.name, 0, tensor.bytes, bytes.data());
      all.push_back(std::move(bytes));
    }
  return all;
}

bool same_values(const HostAdapter& a, const HostAdapter& b) {
  const float *x = a.numbers(AdapterArray::value), *y = b.numbers(AdapterArray::value);
  return std::equal(x, x + a.spec().trained_elements, y);
}

[[maybe_unused]] const os::PagedFile& file_of(const OptimizerState& state) {
  return static_cast<const FileStash*>(state.stash())->file();
}

/// True if the folder for temporary files is on a disk.
bool on_disk() {
  try {
    const os::PagedFile file(std::filesystem::temp_directory_path().string(), 4096);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TEST("paged state gives the same values and the same state, byte for byte") {
  if (!on_disk()) SKIP("the folder for temporary files is in memory");
  for (const auto& [kind, eight_bit] : {std::pair{OptimizerKind::adamw, false}, std::pair{OptimizerKind::adamw, true},
                                        std::pair{OptimizerKind::lion, false}}) {
    HostAdapter whole(spec_of(state_of(kind, eight_bit, -1))), paged(spec_of(state_of(kind, eight_bit, 2 * kMebi)));
    steps(whole, 2, 1, 3);
    steps(paged, 1, 1, 3);
    CHECK(paged.state().stash() != nullptr);
    CHECK(whole.state().stash() == nullptr);
    CHECK(same_values(whole, paged));
    CHECK(state_bytes(whole) == state_bytes(paged));
    for (const int64_t resident : {int64_t{-1}, 2 * kMebi}) {
      StateSpec state = state_of(kind, eight_bit, resident);
      state.in_backward = true;
      HostAdapter one_by_one(spec_of(state));
      CHECK(one_by_one.numbers(AdapterArray::gradient) == nullptr);
      steps(one_by_one, 1, 1, 3);
      CHECK_EQ(one_by_one.state().stash() != nullptr, resident > 0);
      CHECK(same_values(whole, one_by_one));
      CHECK(state_bytes(whole) == state_bytes(one_by_one));
    }

    // Written back into another, it goes on as if nothing had been.
    HostAdapter resumed(spec_of(state_of(kind, eight_bit, 3 * kMebi)));
    std::copy_n(paged.numbers(AdapterArray::value), paged.spec().trained_elements,
                resumed.numbers(AdapterArray::value));
    const std::vector<std::vector<std::byte>> saved = state_bytes(paged);
    auto at = saved.begin();
    for (size_t i = 0; i < resumed.spec().parameters.size(); ++i)
      for (const StateTensor& tensor : resumed.state().tensors(static_cast<int>(i)))
        resumed.state().write(static_cast<int>(i), tensor.name, (at++)->data());
    steps(whole, 1, 4, 5);
    steps(resumed, 2, 4, 5);
    CHECK(same_values(whole, resumed));

    // And begins anew with zeros.
    paged.restart();
    for (const std::vector<std::byte>& bytes : state_bytes(paged))
      CHECK(std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; }));
  }
}

/// Bytes in memory of paged state and of its file: the most while it is updated, and those of the file afterwards.
struct InMemory {
  int64_t most, left;
};

InMemory in_memory_of(int64_t budget, bool in_backward) {
  const int64_t before = allocated_bytes(Category::optimizer);
  StateSpec how = state_of(OptimizerKind::adamw, false, budget);
  how.in_backward = in_backward;
  HostAdapter adapter(spec_of(how));
  const StateLayout layout = lay_out_state(adapter.spec());
  OptimizerState& state = adapter.state();
  const int64_t allocated = allocated_bytes(Category::optimizer) - before;
  CHECK_EQ(allocated, layout.allocated_bytes());
  // A second mapping of the file shows what the page cache holds of it.
  const os::MappedFile mapped("/proc/self/fd/" + std::to_string(file_of(state).handle()));
  if (mapped.resident_bytes() < 0) SKIP("this system does not say what is in memory");
  std::atomic<bool> done{false};
  int64_t most = 0;
  std::thread watch([&] {
    while (!done) most = std::max(most, mapped.resident_bytes());
  });
  steps(adapter, 1, 1, 3);
  done = true;
  watch.join();
  CHECK(file_of(state).bytes() + layout.resident_bytes > 2 * budget);
  CHECK(allocated > budget / 8);
  return {allocated + most, mapped.resident_bytes()};
}

TEST("what is in memory of paged state stays within its budget, the page cache included") {
#if !defined(__linux__)
  SKIP("only Linux says what its page cache holds of a file without a name");
#else
  if (!on_disk()) SKIP("the folder for temporary files is in memory");
  for (const auto& [budget, in_backward] :
       {std::pair{1 * kMebi, false}, {4 * kMebi, false}, {8 * kMebi, false}, {1 * kMebi, true}, {4 * kMebi, true}}) {
    // Pages that the kernel is still writing when they are given up stay a while: on a busy disk it is tried again.
    InMemory found = in_memory_of(budget, in_backward);
    const auto fits = [&] { return found.most <= budget && found.left <= budget / 8; };
    for (int64_t pause = 50; pause < 15'000 && !fits(); pause *= 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      found = in_memory_of(budget, in_backward);
    }
    CHECK_LE(found.most, budget);
    CHECK_LE(found.left, budget / 8);
  }
#endif
}

TEST("a budget with room for all of the state makes no file") {
  AdapterSpec spec = spec_of(state_of(OptimizerKind::adamw, true, 64 * kMebi));
  spec.state.folder = "/nowhere";
  HostAdapter adapter(std::move(spec));
  steps(adapter, 1, 1, 1);
  CHECK(adapter.state().stash() == nullptr);
}

TEST("state that cannot be paged says why") {
  const auto opened = [](int64_t resident, const std::string& folder) {
    StateSpec state = state_of(OptimizerKind::adamw, false, resident);
    state.folder = folder;
    HostAdapter adapter(spec_of(state));
    adapter.restart();
  };
  CHECK_THROWS(opened(1000, "/tmp"),
               "the memory limit of the optimizer state is 1000 bytes; expected at least "
               "1048576");
  CHECK_THROWS(opened(kMebi, "/nowhere"), "cannot write /nowhere/");
#if defined(__linux__)
  if (std::filesystem::exists("/dev/shm")) CHECK_THROWS(opened(kMebi, "/dev/shm"), "is in memory (tmpfs)");
#endif
}

TEST("gradients that find no room leave the adapter as it was, updated in the backward pass") {
#if !defined(__linux__)
  SKIP("only Linux limits the addresses of a process");
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("a sanitizer reserves more addresses than the limit leaves");
#else
  if (std::getenv("LOWRANK_EMULATED") != nullptr) SKIP("an emulator need not limit a program's addresses");
  AdapterSpec spec;
  spec.parameters.push_back({"p", 4096, 8192, true});
  spec.trainable = true;
  spec.state.in_backward = true;
  HostAdapter adapter(std::move(spec));
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE) + 64 * kMebi);
  REQUIRE(::setrlimit(RLIMIT_AS, &tight) == 0);
  CHECK_THROWS(adapter.set_state({}), "The system refused 128.0 MiB for gradients");
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(adapter.spec().state.in_backward);
  adapter.set_state({});
  CHECK(adapter.data(0, AdapterArray::gradient) != nullptr);
#endif
}
