// A host view of device memory: the memory itself if shared with the host, else a copy.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "device/memory.h"

namespace lowrank {

/// Valid for its lifetime. A HostView<const T> reads; writes through a HostView<T> reach the device when it is
/// destroyed.
template <class T>
class HostView {
  using Number = std::remove_const_t<T>;

 public:
  HostView() = default;
  /// Empty if the address is null.
  /// @param what describes the values, for a device that counts
  HostView(Memory& memory, Ptr<Number> at, int64_t count, std::string_view what)
      : memory_(&memory), at_(at), size_(at ? count : 0) {
    if (!at || count == 0) return;
    data_ = reinterpret_cast<T*>(memory.shared(at.template as<std::byte>()));
    if (data_ != nullptr) return;
    copy_ = std::make_unique<Number[]>(static_cast<size_t>(count));
    memory.download(copy_.get(), at.template as<std::byte>(), bytes(), what);
    data_ = copy_.get();
  }
  HostView(HostView&& other) noexcept { swap(other); }
  HostView& operator=(HostView&& other) noexcept {
    HostView taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~HostView() {
    if constexpr (!std::is_const_v<T>) {
      if (copy_ == nullptr) return;
      try {
        memory_->upload(at_.template as<std::byte>(), copy_.get(), bytes());
      } catch (const Error&) {
        // A failed device throws the same error at every later call.
      }
    }
  }

  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  T& operator[](int64_t i) const { return data_[i]; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  int64_t bytes() const { return size_ * static_cast<int64_t>(sizeof(T)); }
  void swap(HostView& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    std::swap(copy_, other.copy_);
  }
  Memory* memory_ = nullptr;
  Ptr<Number> at_;
  int64_t size_ = 0;
  T* data_ = nullptr;
  std::unique_ptr<Number[]> copy_;  // if memory is not shared
};

}  // namespace lowrank
