// A device that computes as the CPU does, in memory that traps: only its own calls can touch what they are handed. Code
// that follows an address, or that looks at what it did not ask for, ends the test.
#pragma once

#if defined(_WIN32)
#include "os/windows/system.h"
#else
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/cpu/device.h"
#include "core/error.h"
#include "core/system.h"

namespace lowrank::test {

class ShadowDevice final : public Device, public Memory {
 public:
  explicit ShadowDevice(cpu::CpuDevice& computes) : cpu_(computes) {}

  const KernelSizes& sizes() const override { return cpu_.sizes(); }
  Memory& memory() override { return *this; }
  int64_t rows_at_once(int weight, int64_t rows) const override { return cpu_.rows_at_once(weight, rows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override { return cpu_.hold(rows); }
  /// Vectors, which have addresses, are copied to memory that traps.
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override {
    return std::make_unique<Placed>(*this, weights);
  }
  void use(const PlacedWeights* weights) override {
    cpu_.use(weights == nullptr ? nullptr : static_cast<const Placed*>(weights)->of_cpu.get());
  }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override {
    const Opened opened(*this);
    cpu_.launch(kernel, workspace);
    ++launches;
  }

  std::unique_ptr<Allocation> allocate(Category, int64_t bytes) override {
    return std::make_unique<Pages>(*this, bytes);
  }
  std::unique_ptr<Allocation> scratch(int64_t bytes) override {
    auto pages = std::make_unique<Pages>(*this, bytes);
    const Opened opened(*this);
    if (bytes > 0) std::memset(cpu::host(pages->data()), 0xff, static_cast<size_t>(bytes));
    return pages;
  }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override {
    const Opened opened(*this);
    std::copy_n(static_cast<const std::byte*>(from), bytes, cpu::host(to));
  }
  void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view) override {
    const Opened opened(*this);
    std::copy_n(cpu::host(from), bytes, static_cast<std::byte*>(to));
  }
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override {
    const Opened opened(*this);
    std::copy_n(cpu::host(from), bytes, cpu::host(to));
  }
  std::byte* shared(Ptr<std::byte>) override { return nullptr; }
  std::unique_ptr<Stash> stash(Category, const std::string&, int64_t bytes) override {
    return std::make_unique<Kept>(*this, bytes);
  }

  int64_t launches = 0;

 private:
  class Pages final : public Allocation {
   public:
    Pages(ShadowDevice& device, int64_t bytes) : device_(device), bytes_(bytes) {
      if (bytes == 0) return;
      at_ = system::map_zeros(bytes);
      if (at_ == nullptr) fail("OUT_OF_MEMORY", "no ", bytes, " bytes for a test");
      const std::lock_guard lock(device_.mutex_);
      device_.pages_[at_] = bytes;
      protect(at_, bytes, device_.open_ > 0);
    }
    ~Pages() override {
      if (at_ == nullptr) return;
      const std::lock_guard lock(device_.mutex_);
      device_.pages_.erase(at_);
      system::unmap_zeros(at_, bytes_);
    }
    Ptr<std::byte> data() const override { return cpu::address_of(static_cast<const std::byte*>(at_)); }
    int64_t bytes() const override { return bytes_; }
    void clear() override {
      const Opened opened(device_);
      if (at_ != nullptr) std::memset(at_, 0, static_cast<size_t>(bytes_));
    }

   private:
    ShadowDevice& device_;
    const int64_t bytes_;
    void* at_ = nullptr;
  };

  /// All of the device's memory, for the length of one of its calls.
  class Opened {
   public:
    explicit Opened(ShadowDevice& device) : device_(device) { turn(1); }
    ~Opened() { turn(-1); }

   private:
    void turn(int by) {
      const std::lock_guard lock(device_.mutex_);
      device_.open_ += by;
      if (device_.open_ == (by > 0 ? 1 : 0))
        for (const auto& [at, bytes] : device_.pages_) protect(at, bytes, by > 0);
    }
    ShadowDevice& device_;
  };
  static void protect(void* at, int64_t bytes, bool open) {
#if defined(_WIN32)
    DWORD before = 0;
    VirtualProtect(at, static_cast<SIZE_T>(bytes), open ? PAGE_READWRITE : PAGE_NOACCESS, &before);
#else
    mprotect(at, static_cast<size_t>(bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE);
#endif
  }

  class Kept final : public Stash {
   public:
    Kept(ShadowDevice& device, int64_t bytes) : device_(device), bytes_(static_cast<size_t>(bytes)) {}
    void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) override {
      device_.download(bytes_.data() + offset, from, bytes, "stash");
    }
    void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) override {
      device_.upload(to, bytes_.data() + offset, bytes);
    }
    void will_fetch(int64_t, int64_t) override {}
    void settle() override {}
    void read(int64_t offset, void* to, int64_t bytes) override {
      std::copy_n(bytes_.data() + offset, bytes, static_cast<std::byte*>(to));
    }
    void write(int64_t offset, const void* from, int64_t bytes) override {
      std::copy_n(static_cast<const std::byte*>(from), bytes, bytes_.data() + offset);
    }

   private:
    ShadowDevice& device_;
    std::vector<std::byte> bytes_;
  };

  class Placed final : public PlacedWeights {
   public:
    Placed(ShadowDevice& device, const WeightStore& weights)
        : of_cpu(device.cpu_.place(weights)), device_(device), store_(weights) {}
    Ptr<float> vector(int weight) const override {
      std::unique_ptr<Allocation>& copy = copies_[weight];
      if (copy == nullptr) {
        const WeightView view = store_.view(weight);
        const int64_t bytes = view.rows * view.cols * static_cast<int64_t>(sizeof(float));
        copy = device_.allocate(Category::weights, bytes);
        device_.upload(copy->data(), view.data, bytes);
      }
      return copy->data().as<float>();
    }
    const std::unique_ptr<PlacedWeights> of_cpu;

   private:
    ShadowDevice& device_;
    const WeightStore& store_;
    mutable std::map<int, std::unique_ptr<Allocation>> copies_;
  };

  cpu::CpuDevice& cpu_;
  std::mutex mutex_;
  std::map<void*, int64_t> pages_;
  int open_ = 0;
};

}  // namespace lowrank::test
