#include "backends/cpu/memory.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "backends/cpu/device.h"
#include "backends/file_stash.h"

namespace lowrank::cpu {
namespace {

class Owned final : public Allocation {
 public:
  Owned(Category category, int64_t bytes) : block_(category, bytes) {}
  Ptr<std::byte> data() const override { return address_of(block_.data()); }
  int64_t bytes() const override { return block_.bytes(); }
  void clear() override { block_.clear(); }

 private:
  Block block_;
};

class HostMemory final : public Memory {
 public:
  std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) override {
    return std::make_unique<Owned>(category, bytes);
  }
  std::unique_ptr<Allocation> scratch(int64_t bytes) override { return std::make_unique<Scratch>(bytes); }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override {
    std::copy_n(static_cast<const std::byte*>(from), bytes, host(to));
  }
  void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view) override {
    std::copy_n(host(from), bytes, static_cast<std::byte*>(to));
  }
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override {
    std::memcpy(host(to), host(from), static_cast<size_t>(bytes));
  }
  std::byte* shared(Ptr<std::byte> at) override { return host(at); }
  std::unique_ptr<Stash> stash(Category, const std::string& folder, int64_t bytes) override {
    return std::make_unique<FileStash>(*this, folder, bytes);
  }
};

}  // namespace

Scratch::Scratch(int64_t bytes)
    : bytes_(bytes), room_(static_cast<std::byte*>(::operator new(static_cast<size_t>(bytes), kLine))) {}
Ptr<std::byte> Scratch::data() const { return address_of(room_.get()); }
void Scratch::clear() { std::memset(room_.get(), 0, static_cast<size_t>(bytes_)); }

Memory& memory() {
  static HostMemory* const process = new HostMemory;  // leaked on purpose: objects destroyed late may still use it
  return *process;
}

}  // namespace lowrank::cpu
