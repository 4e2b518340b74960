// Runs the kernels on a card where LOWRANK_TEST_CARD is 1: there alone, by the driver and the pack that LOWRANK_LIBCUDA
// and LOWRANK_CUDA_PACK name. Buffers lie in pinned memory of the host, whose addresses are the card's too.
#include "backends/cuda/runner.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "backends/cuda/memory.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kRoom = int64_t{1} << 30;

/// One for all runners.
struct UsedCard {
  static UsedCard& instance() {
    static const Probe found = probe();
    if (found.usable() == nullptr) throw std::runtime_error("LOWRANK_TEST_CARD: there is no card that can be used");
    const char* const pack = std::getenv("LOWRANK_CUDA_PACK");
    if (pack == nullptr) throw std::runtime_error("LOWRANK_TEST_CARD: LOWRANK_CUDA_PACK does not name the kernels");
    static UsedCard used(found, pack);
    return used;
  }
  Gpu gpu;
  std::optional<Pinned> room;

 private:
  UsedCard(const Probe& found, const char* pack) : gpu(found.driver, *found.usable(), pack) {
    const Gpu::Entered entered(gpu);
    room.emplace(gpu, kRoom);
  }
};

class CardRunner final : public Runner {
 public:
  explicit CardRunner(UsedCard& used) : Runner("card", used.room->data(), static_cast<size_t>(kRoom)), used_(used) {
    set_card(used.gpu.card());
  }

 private:
  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
              int64_t shared_bytes) override {
    {
      const Gpu::Entered entered(used_.gpu);
      used_.gpu.launch(kernel, blocks, threads, args, args_bytes, shared_bytes);
      used_.gpu.finish(Lane::kernels);
    }
    const int64_t overrun = memory().overrun();
    if (overrun >= 0)
      throw std::runtime_error(std::string(kernel) + ": wrote beside buffer " + std::to_string(overrun) +
                               " of the test");
  }
  UsedCard& used_;
};

/// Nothing else then: the host's executions say nothing of a card, and take longer.
bool use_card() {
  const char* const asked = std::getenv("LOWRANK_TEST_CARD");
  if (asked == nullptr || std::strcmp(asked, "1") != 0) return false;
  Execution::all() = {{"card", [] { return std::make_unique<CardRunner>(UsedCard::instance()); }}};
  return true;
}
[[maybe_unused]] const bool used = use_card();

}  // namespace
}  // namespace lowrank::cuda
