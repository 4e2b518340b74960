// A card of the stand-in driver for tests, with a pack that names all of its kernels.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/driver/standin.h"
#include "backends/cuda/emulate/machine.h"
#include "backends/cuda/memory.h"
#include "standin_test.h"

namespace lowrank::test {

/// A pack of all kernels that the stand-in driver knows.
inline std::vector<uint8_t> names_pack() {
  std::set<std::string> names{"standin_add", "standin_copy"};
  for (const cuda::emulate::Entry& entry : cuda::emulate::all_kernels()) names.insert(entry.name);
  return PackBytes::of_names({names.begin(), names.end()});
}

/// The first card of the stand-in driver, in an environment.
class StandinCard {
 public:
  explicit StandinCard(std::initializer_list<std::pair<const char*, std::string>> variables = {},
                       const std::vector<uint8_t>& pack = names_pack())
      : environment_(variables), pack_(pack) {
    environment_.set("LOWRANK_LIBCUDA", standin_library());
    probe_ = cuda::probe();
    if (probe_.usable() == nullptr)
      throw std::runtime_error(probe_.reasons.empty() ? "no card" : probe_.reasons.front());
  }
  std::shared_ptr<const cuda::Driver> driver() const { return probe_.driver; }
  const cuda::FoundCard& found() const { return *probe_.usable(); }
  const std::string& pack() const { return pack_.path(); }
  Environment& environment() { return environment_; }

 private:
  Environment environment_;
  TemporaryFile pack_;
  cuda::Probe probe_;
};

/// Its memory in use.
struct UsedCard {
  explicit UsedCard(StandinCard& card) : gpu(card.driver(), card.found(), card.pack()), memory(gpu) {}
  cuda::Gpu gpu;
  cuda::CudaMemory memory;

  void add(Ptr<std::byte> to, int64_t count, float value) {
    const cuda::Gpu::Entered entered(gpu);
    memory.transfers().order(cuda::Lane::kernels, cuda::span_of(to, count * 4), true);
    const standin::AddArgs args{reinterpret_cast<float*>(to.address()), count, value};
    gpu.launch("standin_add", {}, 32, &args, sizeof args, 0);
  }
  std::vector<float> read(Ptr<std::byte> from, int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    memory.download(values.data(), from, count * 4, "test");
    return values;
  }
  void write(Ptr<std::byte> to, const std::vector<float>& values) {
    memory.upload(to, values.data(), static_cast<int64_t>(values.size()) * 4);
  }
};

/// Orders in which the stand-in driver runs its streams.
inline const char* const kOrders[] = {"late", "early", "random:1", "random:2", "random:3", "random:4"};

}  // namespace lowrank::test
