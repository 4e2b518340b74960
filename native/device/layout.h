// The workspace of one step: measured during planning and assigned at run time, by the same calls.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/error.h"
#include "core/math.h"
#include "kernels/ptr.h"

namespace lowrank {

class Layout {
 public:
  /// Measures; the addresses it returns are invalid.
  Layout() : Layout(Ptr<std::byte>(kNowhere), std::numeric_limits<int64_t>::max() / 2) {}
  /// Assigns.
  Layout(Ptr<std::byte> at, int64_t bytes) : at_(at), bytes_(bytes) {}

  /// Space for `count` values until the enclosing scope ends.
  template <class T>
  Ptr<T> take(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    const Ptr<std::byte> taken = rest(bytes);
    used_ += round_up(bytes, kAlignment);
    return taken.as<T>();
  }
  /// Space for one kernel while it runs; later allocations may reuse it.
  Ptr<std::byte> rest(int64_t bytes) {
    if (round_up(bytes, kAlignment) > bytes_ - used_)
      fail("INTERNAL", "a step asks for ", bytes, " bytes of workspace where ", bytes_ - used_, " are left");
    most_ = std::max(most_, used_ + round_up(bytes, kAlignment));
    return at_ + used_;
  }
  /// Peak use.
  int64_t bytes() const { return most_; }

  /// Returns, at its end, the workspace taken during its lifetime.
  class Scope {
   public:
    explicit Scope(Layout& layout) : layout_(layout), used_(layout.used_) {}
    ~Scope() { layout_.used_ = used_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Layout& layout_;
    int64_t used_;
  };

 private:
  static constexpr int64_t kAlignment = 64;
  Ptr<std::byte> at_;
  int64_t bytes_, used_ = 0, most_ = 0;
};

}  // namespace lowrank
