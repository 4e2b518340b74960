#include "backends/cuda/device.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/remote.h"
#include "backends/cuda/launch/attention.h"
#include "backends/cuda/launch/columns.h"
#include "backends/cuda/launch/dequantize.h"
#include "backends/cuda/launch/elementwise.h"
#include "backends/cuda/launch/factors.h"
#include "backends/cuda/launch/gains.h"
#include "backends/cuda/launch/kronecker.h"
#include "backends/cuda/launch/loss.h"
#include "backends/cuda/launch/norm.h"
#include "backends/cuda/launch/optimizers.h"
#include "backends/cuda/launch/products.h"
#include "backends/cuda/launch/rotation.h"
#include "backends/cuda/launch/row_norms.h"
#include "backends/cuda/launch/rows_by_id.h"
#include "core/error.h"

namespace lowrank::cuda {
namespace {

/// Where launch/ has no such function, a kernel needs none.
template <class K>
int64_t workspace_of(const Card& card, const K& kernel) {
  if constexpr (requires { workspace(card, kernel); })
    return workspace(card, kernel);
  else
    return 0;
}

template <class K>
void run_any(Launcher& launcher, const Weights& weights, const K& kernel, Ptr<std::byte> room) {
  if constexpr (requires { run(launcher, weights, kernel, room); })
    run(launcher, weights, kernel, room);
  else
    run(launcher, kernel, room);
}

}  // namespace

int64_t CudaSizes::workspace(const Kernel& kernel) const {
  return std::visit([&](const auto& k) { return workspace_of(card_, k); }, kernel);
}

CudaDevice::CudaDevice(std::shared_ptr<const Driver> driver, const FoundCard& found, const std::string& pack)
    : gpu_(std::move(driver), found, pack), memory_(gpu_), sizes_(gpu_.card()) {
  const Gpu::Entered entered(gpu_);
  library_ = CublasLt::open(gpu_.card().sm, library_reason_);
}

void CudaDevice::launch(const Kernel& kernel, Ptr<std::byte> workspace) {
  const Gpu::Entered entered(gpu_);
  if (!memory_.transfers().empty()) memory_.transfers().order(kernel, span_of(workspace, sizes_.workspace(kernel)));
  std::visit([&](const auto& k) { run_any(*this, *weights_, k, workspace); }, kernel);
}

void CudaDevice::finish() {
  const Gpu::Entered entered(gpu_);
  gpu_.finish(Lane::kernels);
}

void CudaDevice::launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t, int64_t shared_bytes) {
  gpu_.launch(kernel, blocks, threads, args, shared_bytes);
}

/// A model's weights in the card's memory.
struct CudaDevice::Copies {
  Weights table;
  std::vector<std::unique_ptr<Allocation>> memory;
};

class CudaDevice::Placed final : public PlacedWeights {
 public:
  Placed(std::shared_ptr<const Copies> of, const WeightStore& weights) : copies(std::move(of)), store(weights) {}
  Ptr<float> vector(int weight) const override {
    return Ptr<float>(reinterpret_cast<uint64_t>(copies->table.at(weight).data));
  }
  const std::shared_ptr<const Copies> copies;
  const WeightStore& store;
};

std::unique_ptr<PlacedWeights> CudaDevice::place(const WeightStore& weights) {
  weights.expect_loaded();
  std::erase_if(copies_, [](const auto& each) { return each.second.expired(); });
  std::weak_ptr<const Copies>& known = copies_[weights.model()];
  if (auto copies = known.lock()) return std::make_unique<Placed>(std::move(copies), weights);
  auto copies = std::make_shared<Copies>();
  const auto take = [&](Category category, int64_t bytes) {
    copies->memory.push_back(memory_.uninitialized(category, bytes));
    return copies->memory.back()->data();
  };
  const auto copy = [&](const void* from, int64_t bytes) {
    if (bytes == 0) return Ptr<std::byte>();
    const Ptr<std::byte> to = take(Category::quantization_constants, bytes);
    memory_.upload(to, from, bytes);
    return to;
  };
  for (int weight = 0; weight < weights.count(); ++weight) {
    const WeightView view = weights.view(weight);
    const WeightBytes bytes = bytes_of(view);
    const Ptr<std::byte> data = take(Category::weights, bytes.data);
    WeightAddresses at{data};
    // As many rows at a time as the host may have in memory. Whole ones end where blocks of codes do.
    const int64_t at_once = std::min(view.rows, weights.rows_at_once(weight, view.rows));
    for (int64_t begin = 0, done = 0; begin < view.rows; begin += at_once) {
      const int64_t end = std::min(view.rows, begin + at_once);
      const auto held = weights.hold({weight, begin, end});
      const int64_t upto = end == view.rows ? bytes.data : bytes_of(rows_of(view, 0, end)).data;
      memory_.upload(data + done, static_cast<const std::byte*>(view.data) + done, upto - done);
      done = upto;
      if (begin == 0) {
        at.absmax = copy(view.absmax, bytes.absmax).as<float>();
        at.absmax_codes = copy(view.absmax_codes, bytes.absmax_codes).as<uint8_t>();
        at.nested_absmax = copy(view.nested_absmax, bytes.nested_absmax).as<float>();
      }
    }
    copies->table.set(weight, device_weight(view, at));
  }
  known = copies;
  return std::make_unique<Placed>(std::move(copies), weights);
}

void CudaDevice::use(const PlacedWeights* weights) {
  const auto* const placed = static_cast<const Placed*>(weights);
  weights_ = placed == nullptr ? &none_ : &placed->copies->table;
  store_ = placed == nullptr ? nullptr : &placed->store;
}

std::unique_ptr<Device> CudaDevice::reference() { return std::make_unique<cpu::Remote>(*this, store_); }

}  // namespace lowrank::cuda
