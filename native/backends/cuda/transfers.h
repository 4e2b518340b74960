// Copies beside the kernels that nothing has waited for yet, and the memory of the card that they read or write.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backends/cuda/gpu.h"
#include "kernels/kernels.h"

namespace lowrank::cuda {

/// Addresses of the card, from the first up to the one behind the last.
struct Span {
  uint64_t begin, end;
  bool meets(const Span& other) const { return begin < other.end && other.begin < end; }
};
inline Span span_of(Ptr<std::byte> at, int64_t bytes) {
  return {at.address(), at.address() + static_cast<uint64_t>(bytes)};
}

/// The calling thread must have entered the card.
class Transfers {
 public:
  explicit Transfers(Gpu& gpu) : gpu_(gpu) {}
  bool empty() const { return pending_.empty(); }
  void clear() { pending_.clear(); }
  /// The last work of a copy's stream reads a stretch of the card's memory, or writes it. Returns the copy's end.
  std::shared_ptr<Gpu::Mark> add(Lane lane, const Span& span, bool writes);
  /// A stream's work from now on comes after the copies that write a stretch, and where it writes it, after those that
  /// read it.
  void order(Lane lane, const Span& span, bool writes);
  /// The same for all that a kernel touches.
  void order(const Kernel& kernel, const Span& workspace);

 private:
  struct Pending {
    Lane lane;
    Span span;
    bool writes;
    std::shared_ptr<Gpu::Mark> end;
  };
  Gpu& gpu_;
  std::vector<Pending> pending_;
};

}  // namespace lowrank::cuda
