#include "backends/cuda/device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backends/cpu/remote.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/weight_ring.h"
#include "core/error.h"
#include "quant/half.h"

namespace lowrank::cuda {
namespace {

template <class K>
int64_t workspace_of(const Card& card, const K& kernel) {
  if constexpr (requires { K::kNeedsRoom; }) return cuda::workspace(card, kernel);
  return 0;
}

}  // namespace

/// A model's weights in the card's memory.
struct CudaDevice::Copies {
  Weights table;
  std::vector<std::unique_ptr<Allocation>> memory;
  std::unique_ptr<WeightRing> ring;  // of a base that is streamed
};

int64_t CudaSizes::workspace(const Kernel& kernel) const {
  return std::visit([&](const auto& k) { return workspace_of(card_, k); }, kernel);
}

CudaDevice::CudaDevice(std::shared_ptr<const Driver> driver, const FoundCard& found, const std::string& pack,
                       Inflated inflated)
    : gpu_(std::move(driver), found, pack, std::move(inflated)), memory_(gpu_), sizes_(gpu_.card()) {
  const Gpu::Entered entered(gpu_);
  std::string reason;  // why there is no library: products then run on the kernels here
  library_ = CublasLt::open(gpu_.card().sm, reason);
}

void CudaDevice::launch(const Kernel& kernel, Ptr<std::byte> workspace) {
  if (const auto* rows = std::get_if<DecodeRows>(&kernel);
      rows != nullptr && ring_ != nullptr && rows->table.weight >= 0 && !store_->stream()->keeps(rows->table.weight))
    return look_up(*rows);
  const Gpu::Entered entered(gpu_);
  if (ring_ != nullptr) ring_->go_on(*store_);
  if (!memory_.transfers().empty()) memory_.transfers().order(kernel, span_of(workspace, sizes_.workspace(kernel)));
  std::visit([&](const auto& k) { run(*this, k, workspace); }, kernel);
}

void CudaDevice::finish() {
  const Gpu::Entered entered(gpu_);
  gpu_.finish(Lane::kernels);
}

std::unique_ptr<Link> CudaDevice::link(std::shared_ptr<const Nccl> nccl, const NcclLink::Place& place,
                                       const std::function<bool()>& given_up) {
  Launcher& launcher = *this;
  return std::make_unique<NcclLink>(std::move(nccl), memory_, launcher, place, given_up);
}

void CudaDevice::repeat(const void* key, const std::function<void()>& body) {
  {
    const Gpu::Entered entered(gpu_);
    gpu_.begin_repeat(key);
  }
  try {
    body();
  } catch (...) {
    const Gpu::Entered entered(gpu_, true);
    gpu_.drop_repeat();
    throw;
  }
  const Gpu::Entered entered(gpu_);
  gpu_.end_repeat();
}

void CudaDevice::launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
                        int64_t shared_bytes) {
  gpu_.launch(kernel, blocks, threads, args, args_bytes, shared_bytes);
}

class CudaDevice::Placed final : public PlacedWeights {
 public:
  Placed(std::shared_ptr<Copies> of, const WeightStore& from) : copies(std::move(of)), store(from) {}
  Ptr<float> vector(int weight) const override {
    return Ptr<float>(reinterpret_cast<uint64_t>(copies->table.at(weight).data));
  }
  const std::shared_ptr<Copies> copies;
  const WeightStore& store;
};

std::unique_ptr<PlacedWeights> CudaDevice::place(const WeightStore& weights) {
  weights.expect_loaded();
  std::erase_if(copies_, [](const auto& each) { return each.second.expired(); });
  std::weak_ptr<Copies>& known = copies_[weights.model()];
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
  const WeightStream* const stream = weights.stream();
  for (int weight = 0; weight < weights.count(); ++weight) {
    if (stream != nullptr && stream->places[static_cast<size_t>(weight)].elements >= 0) continue;
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
  if (stream != nullptr) copies->ring = std::make_unique<WeightRing>(memory_, weights, copies->table);
  known = copies;
  return std::make_unique<Placed>(std::move(copies), weights);
}

void CudaDevice::use(const PlacedWeights* weights) {
  const auto* const placed = static_cast<const Placed*>(weights);
  weights_ = placed == nullptr ? &none_ : &placed->copies->table;
  ring_ = placed == nullptr ? nullptr : placed->copies->ring.get();
  store_ = placed == nullptr ? nullptr : &placed->store;
}

std::unique_ptr<Hold> CudaDevice::hold(const WeightRows& rows) {
  if (ring_ == nullptr) return nullptr;
  const Gpu::Entered entered(gpu_);
  return ring_->hold(*store_, rows);
}

void CudaDevice::expect(std::span<const WeightRows> order) {
  if (ring_ == nullptr) return;
  store_->expect(order);
  const Gpu::Entered entered(gpu_);
  ring_->expect(*store_, order);
}

int64_t CudaDevice::fetched() const {
  int64_t bytes = 0;
  for (const auto& [model, known] : copies_)
    if (const auto copies = known.lock(); copies != nullptr && copies->ring != nullptr)
      bytes += copies->ring->fetched();
  return bytes;
}

/// Rows of a table that is not on the card: few of them, which the host decodes as the card would.
void CudaDevice::look_up(const DecodeRows& kernel) {
  constexpr int64_t kAtOnce = 256;
  const int64_t cols = kernel.table.cols, element = size_of(kernel.out.dtype);
  const int weight = kernel.table.weight;
  std::vector<int32_t> ids(static_cast<size_t>(kernel.tokens));
  memory_.download(ids.data(), kernel.ids.as<std::byte>(), kernel.tokens * 4, "tokens");
  const WeightView table = store_->view(weight);
  const int64_t gathered = store_->gathered_at_once(weight);
  const int64_t at_once = gathered == 0 ? kAtOnce : gathered;
  std::vector<float> values(static_cast<size_t>(at_once * cols));
  std::vector<uint16_t> halves(kernel.out.dtype == DType::bf16 ? values.size() : 0);
  for (int64_t begin = 0; begin < kernel.tokens; begin += at_once) {
    const std::span<const int32_t> rows(ids.data() + begin,
                                        static_cast<size_t>(std::min(at_once, kernel.tokens - begin)));
    const auto held = gathered == 0 ? nullptr : store_->gather(weight, rows);
    for (size_t i = 0; i < rows.size(); ++i)
      decode_row(table, kernel.table.first + rows[i], 0, cols, values.data() + static_cast<int64_t>(i) * cols);
    const auto count = static_cast<int64_t>(rows.size());
    if (!halves.empty()) encode_bf16(values.data(), count * cols, halves.data());
    const auto* const from = halves.empty() ? reinterpret_cast<const std::byte*>(values.data())
                                            : reinterpret_cast<const std::byte*>(halves.data());
    const Matrix to = kernel.out.rows(begin);
    if (to.ld == cols) {
      memory_.upload(to.data, from, count * cols * element);
      continue;
    }
    for (int64_t row = 0; row < count; ++row)
      memory_.upload(to.rows(row).data, from + row * cols * element, cols * element);
  }
}

std::unique_ptr<Device> CudaDevice::reference() { return std::make_unique<cpu::Remote>(*this, store_); }

}  // namespace lowrank::cuda
