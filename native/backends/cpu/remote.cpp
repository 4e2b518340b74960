#include "backends/cpu/remote.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "device/fields.h"

namespace lowrank::cpu {
namespace {

/// Stretches of the device's memory that a kernel touches, with their copies on the host.
class Touched final : public Operands {
 public:
  Touched(const Kernel& kernel, Memory& memory, CpuDevice& cpu) : memory_(memory), cpu_(cpu) {
    operands(kernel, *this);
    join();
    for (Stretch& each : stretches_) {
      each.copy = cpu::memory().scratch(each.bytes() + kAlignment);
      memory_.download(host(each.on_host()), Ptr<std::byte>(each.begin), each.bytes(), "checked operands");
    }
  }

  /// Where the host has it; null for what no operand names.
  uint64_t on_host(uint64_t address) const {
    for (const Stretch& each : stretches_)
      if (address >= each.begin && address < each.end) return each.on_host().address() + (address - each.begin);
    return 0;
  }
  void put_back() const {
    for (const Stretch& each : stretches_)
      if (each.written) memory_.upload(Ptr<std::byte>(each.begin), host(each.on_host()), each.bytes());
  }

 protected:
  void memory(const Region& region) override {
    int64_t rows = region.rows, cols = region.cols;
    if (region.picked.ids) (region.picked.columns ? cols : rows) = last_of(region.picked) + 1;
    if (rows <= 0 || cols <= 0) return;
    const uint64_t begin = region.at.data.address();
    const int64_t bytes = ((rows - 1) * region.at.ld + cols) * size_of(region.at.dtype);
    const bool written = region.access == Access::write || region.access == Access::add;
    stretches_.push_back({begin, begin + static_cast<uint64_t>(bytes), written, nullptr});
  }
  void weight(Access, const Factor& rows, const Picked& picked) override {
    if (!picked.ids) held_.push_back(cpu_.hold({rows.weight, rows.first, rows.first + rows.rows}));
  }

 private:
  static constexpr int64_t kAlignment = 64;
  struct Stretch {
    uint64_t begin, end;
    bool written;
    std::unique_ptr<Allocation> copy;
    int64_t bytes() const { return static_cast<int64_t>(end - begin); }
    /// As far from a multiple of the alignment as on the device.
    Ptr<std::byte> on_host() const { return copy->data() + static_cast<int64_t>(begin % kAlignment); }
  };

  int64_t last_of(const Picked& picked) const {
    std::vector<int32_t> ids(static_cast<size_t>(picked.count));
    memory_.download(ids.data(), picked.ids.as<std::byte>(), picked.count * static_cast<int64_t>(sizeof(int32_t)),
                     "checked operands");
    return ids.empty() ? -1 : *std::max_element(ids.begin(), ids.end());
  }

  /// Makes one of those that overlap.
  void join() {
    std::sort(stretches_.begin(), stretches_.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::vector<Stretch> joined;
    for (Stretch& each : stretches_) {
      if (joined.empty() || each.begin >= joined.back().end) {
        joined.push_back(std::move(each));
        continue;
      }
      joined.back().end = std::max(joined.back().end, each.end);
      joined.back().written |= each.written;
    }
    stretches_ = std::move(joined);
  }

  Memory& memory_;
  CpuDevice& cpu_;
  std::vector<Stretch> stretches_;
  std::vector<std::unique_ptr<Hold>> held_;
};

/// Replaces addresses of the device by the host's, in a kernel and all that it consists of.
class Moved {
 public:
  explicit Moved(const Touched& touched) : touched_(touched) {}

  template <class T>
  void operator()(Ptr<T>& at) {
    at = Ptr<T>(touched_.on_host(at.address()));
  }
  template <class T>
  void operator()(std::span<const T>& list) {
    if constexpr (std::is_class_v<T>) {
      const auto copy = std::make_shared<std::vector<T>>(list.begin(), list.end());
      for (T& each : *copy) each_field(each, *this);
      lists_.push_back(copy);
      list = *copy;
    }
  }
  template <class T>
  void operator()(T& other) {
    if constexpr (std::is_class_v<T>) each_field(other, *this);
  }

 private:
  const Touched& touched_;
  std::vector<std::shared_ptr<void>> lists_;
};

}  // namespace

Remote::Remote(Device& of, const WeightStore* weights)
    : WrappedDevice(of), pool_(1), cpu_(pool_, cpu::kernels(Level::reference), CpuSizes(1)) {
  if (weights == nullptr) return;
  weights_ = cpu_.place(*weights);
  cpu_.use(weights_.get());
}

void Remote::launch(const Kernel& kernel, Ptr<std::byte>) {
  const Touched touched(kernel, memory(), cpu_);
  Moved moved(touched);
  Kernel on_host = kernel;
  std::visit([&](auto& k) { each_field(k, moved); }, on_host);
  const auto room = cpu::memory().scratch(cpu_.sizes().workspace(on_host));
  cpu_.launch(on_host, room->data());
  touched.put_back();
}

}  // namespace lowrank::cpu
