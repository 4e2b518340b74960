#include "device/null.h"

#include <algorithm>

namespace lowrank {
namespace {

class Nowhere final : public DeviceMemory {
 public:
  explicit Nowhere(int64_t bytes) : bytes_(bytes) {}
  Ptr<std::byte> data() const override { return Ptr<std::byte>(kNowhere); }
  int64_t bytes() const override { return bytes_; }

 private:
  int64_t bytes_;
};

class CountedStash final : public Stash {
 public:
  explicit CountedStash(NullDevice& device) : device_(device) {}
  void put(int64_t, Ptr<std::byte>, int64_t bytes) override { device_.stashed += bytes; }
  void fetch(Ptr<std::byte>, int64_t, int64_t bytes) override { device_.fetched += bytes; }
  void will_fetch(int64_t, int64_t) override {}

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

std::unique_ptr<DeviceMemory> NullDevice::scratch(int64_t bytes) { return std::make_unique<Nowhere>(bytes); }

std::unique_ptr<DeviceMemory> NullDevice::allocate(Category category, int64_t bytes) {
  allocated[category] += bytes;
  return std::make_unique<Nowhere>(bytes);
}

void NullDevice::upload(Ptr<std::byte>, const void*, int64_t bytes) { uploaded += bytes; }

const std::byte* NullDevice::download(Ptr<std::byte>, int64_t bytes, std::string_view what) {
  downloaded[std::string(what)] += bytes;
  zeros_.assign(static_cast<size_t>(bytes), std::byte{0});
  return zeros_.data();
}

void NullDevice::copy(Ptr<std::byte>, Ptr<std::byte>, int64_t bytes) { copied += bytes; }

std::unique_ptr<Stash> NullDevice::stash(const std::string&, int64_t) { return std::make_unique<CountedStash>(*this); }

void NullDevice::launch(const Kernel& kernel, Ptr<std::byte>) {
  Moved moved(weights_);
  std::visit([&](const auto& k) { k.operands(moved); }, kernel);
  KernelCounts& counts = kernels[name_of(kernel)];
  ++counts.launches;
  counts.bytes += moved.bytes;
  counts.workspace = std::max(counts.workspace, sizes_.workspace(kernel));
}

}  // namespace lowrank
