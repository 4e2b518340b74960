#include "backends/cpu/device.h"

#include "backends/cpu/gemm/gemm_plan.h"
#include "backends/cpu/operand_check.h"
#include "core/error.h"

namespace lowrank::cpu {
namespace {

class InPlace final : public PlacedWeights {
 public:
  explicit InPlace(const WeightStore& weights) : store(weights) {}
  Ptr<float> vector(int weight) const override {
    return address_of(static_cast<const float*>(store.view(weight).data));
  }
  const WeightStore& store;
};

}  // namespace

WeightView view(const Cpu& cpu, const Factor& w) {
  if (w.weight >= 0) {
    const WeightView whole = cpu.weights->view(w.weight);
    return w.first == 0 && w.rows == whole.rows ? whole : rows_of(whole, w.first, w.rows);
  }
  WeightView dense;
  dense.rows = w.rows;
  dense.cols = w.cols;
  dense.data = host(w.dense);
  dense.ld = w.ld;
  return dense;
}

CpuSizes::CpuSizes(int threads) : threads_(threads) {
  if (threads < 1) fail("CONFIG", "plan: threads is ", threads, "; expected at least 1");
}

bool CpuSizes::multiplies_by_row(int64_t depth, int64_t ranks) const { return fits_few_rows(depth, ranks); }

int64_t CpuSizes::workspace(const Kernel& kernel) const {
  return std::visit(
      [&]<class K>(const K& k) -> int64_t {
        if constexpr (requires { K::kNeedsRoom; }) return cpu::workspace(k, threads_);
        return 0;
      },
      kernel);
}

std::unique_ptr<PlacedWeights> CpuDevice::place(const WeightStore& weights) {
  weights.expect_loaded();
  return std::make_unique<InPlace>(weights);
}

void CpuDevice::use(const PlacedWeights* weights) {
  weights_ = weights == nullptr ? nullptr : &static_cast<const InPlace*>(weights)->store;
}

std::unique_ptr<Device> CpuDevice::reference() {
  auto device = std::make_unique<CpuDevice>(pool_, cpu::kernels(Level::reference), sizes_);
  device->weights_ = weights_;
  return device;
}

std::unique_ptr<Device> CpuDevice::operand_check(const std::vector<const Allocation*>& memory) {
  OperandCheck::Spans spans;
  for (const Allocation* own : memory)
    if (own->bytes() > 0) spans.emplace_back(host(own->data()), static_cast<size_t>(own->bytes()));
  return std::make_unique<OperandCheck>(*this, std::move(spans));
}

void CpuDevice::launch(const Kernel& kernel, Ptr<std::byte> workspace) {
#if defined(__SANITIZE_ADDRESS__)
  // Exactly the promised size, so that a kernel that takes more is detected.
  const Scratch room(sizes_.workspace(kernel));
  workspace = room.data();
#endif
  kernels_.table[kernel.index()]({pool_, host(workspace), weights_}, value_of(kernel));
}

}  // namespace lowrank::cpu
