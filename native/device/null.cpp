#include "device/null.h"

#include <algorithm>
#include <cstring>

namespace lowrank {
namespace {

class Nowhere final : public Allocation {
 public:
  explicit Nowhere(int64_t bytes) : bytes_(bytes) {}
  Ptr<std::byte> data() const override { return Ptr<std::byte>(bytes_ == 0 ? 0 : kNowhere); }
  int64_t bytes() const override { return bytes_; }
  void clear() override {}

 private:
  int64_t bytes_;
};

class CountedStash final : public Stash {
 public:
  explicit CountedStash(NullDevice& device) : device_(device) {}
  void put(int64_t, Ptr<std::byte>, int64_t bytes) override { device_.counts.stashed += bytes; }
  void fetch(Ptr<std::byte>, int64_t, int64_t bytes) override { device_.counts.fetched += bytes; }
  void will_fetch(int64_t, int64_t) override {}
  void settle() override {}
  void read(int64_t, void* to, int64_t bytes) override {
    std::fill_n(static_cast<std::byte*>(to), bytes, std::byte{0});
  }
  void write(int64_t, const void*, int64_t) override {}

 private:
  NullDevice& device_;
};

class Moved final : public Operands {
 public:
  explicit Moved(const std::vector<NullDevice::HeldWeight>& weights) : weights_(weights) {}
  int64_t bytes = 0;

 protected:
  void memory(const Region& region) override { bytes += region.bytes(); }
  void weight(Access access, const Factor& rows, const Picked& picked) override {
    if (weights_.empty()) return;
    const NullDevice::HeldWeight& held = weights_[static_cast<size_t>(rows.weight)];
    const int64_t count = picked.ids ? picked.count : rows.rows;
    bytes += times(access) * (held.bytes / held.rows * count + held.bytes % held.rows * count / held.rows);
  }

 private:
  const std::vector<NullDevice::HeldWeight>& weights_;
};

}  // namespace

std::unique_ptr<PlacedWeights> NullDevice::place(const WeightStore&) {
  struct Placed final : PlacedWeights {
    Ptr<float> vector(int) const override { return Ptr<float>(kNowhere); }
  };
  return std::make_unique<Placed>();
}

std::unique_ptr<Allocation> NullDevice::scratch(int64_t bytes) { return std::make_unique<Nowhere>(bytes); }

std::unique_ptr<Allocation> NullDevice::allocate(Category category, int64_t bytes) {
  allocated[category] += bytes;
  return std::make_unique<Nowhere>(bytes);
}

void NullDevice::upload(Ptr<std::byte>, const void*, int64_t bytes) { counts.uploaded += bytes; }

void NullDevice::download(void* to, Ptr<std::byte>, int64_t bytes, std::string_view what) {
  counts.downloaded[std::string(what)] += bytes;
  std::memset(to, 0, static_cast<size_t>(bytes));
  if (number != 0) std::fill_n(static_cast<float*>(to), bytes / static_cast<int64_t>(sizeof(float)), number);
}

void NullDevice::copy(Ptr<std::byte>, Ptr<std::byte>, int64_t bytes) { counts.copied += bytes; }

std::unique_ptr<Stash> NullDevice::stash(Category, const std::string&, int64_t) {
  return std::make_unique<CountedStash>(*this);
}

void NullDevice::launch(const Kernel& kernel, Ptr<std::byte>) {
  Moved moved(weights_);
  operands(kernel, moved);
  KernelCounts& of_kernel = counts.kernels[name_of(kernel)];
  of_kernel.kernel = name_of(kernel);
  ++of_kernel.launches;
  of_kernel.bytes_moved += moved.bytes;
  of_kernel.multiply_adds += multiply_adds(kernel);
  of_kernel.workspace_bytes = std::max(of_kernel.workspace_bytes, sizes_.workspace(kernel));
}

}  // namespace lowrank
