#include "backends/cuda/transfers.h"

#include <algorithm>
#include <limits>

namespace lowrank::cuda {
namespace {

/// Has the kernels wait for what touches an operand.
class Touched final : public Operands {
 public:
  explicit Touched(Transfers& transfers) : transfers_(transfers) {}

 protected:
  void memory(const Region& region) override {
    Span span{region.at.data.address(), std::numeric_limits<uint64_t>::max()};
    // The last of picked rows is not known.
    if (!region.picked.ids && region.rows > 0)
      span = span_of(region.at.data, ((region.rows - 1) * region.at.ld + region.cols) * size_of(region.at.dtype));
    transfers_.order(Lane::kernels, span, region.access != Access::read && region.access != Access::maybe);
  }
  void weight(Access, const Factor&, const Picked&) override {}  // copies leave weights alone

 private:
  Transfers& transfers_;
};

}  // namespace

std::shared_ptr<Gpu::Mark> Transfers::add(Lane lane, const Span& span, bool writes) {
  constexpr size_t kMany = 16;
  if (pending_.size() >= kMany) std::erase_if(pending_, [](const Pending& each) { return each.end->reached(); });
  auto end = std::make_shared<Gpu::Mark>(gpu_);
  end->record(lane);
  pending_.push_back({lane, span, writes, end});
  return end;
}

void Transfers::order(Lane lane, const Span& span, bool writes) {
  std::erase_if(pending_, [&](const Pending& each) {
    if (!each.span.meets(span) || !(each.writes || writes)) return false;
    if (each.lane != lane) each.end->hold_back(lane);
    // Everything waits for the kernels, and with them for this.
    return lane == Lane::kernels;
  });
}

void Transfers::order(const Kernel& kernel, const Span& workspace) {
  order(Lane::kernels, workspace, true);
  Touched touched(*this);
  operands(kernel, touched);
}

}  // namespace lowrank::cuda
