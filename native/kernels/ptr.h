// An address in device memory. Code outside a device can compute and pass addresses, but not dereference them.
#pragma once

#include <cstdint>

namespace lowrank {

template <class T>
class Ptr {
 public:
  constexpr Ptr() = default;
  explicit constexpr Ptr(uint64_t address) : address_(address) {}

  constexpr uint64_t address() const { return address_; }
  explicit constexpr operator bool() const { return address_ != 0; }
  constexpr Ptr operator+(int64_t elements) const {
    return Ptr(address_ + static_cast<uint64_t>(elements) * static_cast<uint64_t>(sizeof(T)));
  }
  template <class U>
  constexpr Ptr<U> as() const {
    return Ptr<U>(address_);
  }

 private:
  uint64_t address_ = 0;
};

/// An invalid address, for planning.
inline constexpr uint64_t kNowhere = uint64_t{1} << 62;

}  // namespace lowrank
