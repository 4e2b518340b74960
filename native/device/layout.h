// The workspace of one step: counted where the step is planned, handed out where it runs, by the same calls.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/error.h"
#include "core/math.h"
#include "device/ptr.h"

namespace lowrank {

class Layout {
 public:
  /// Counts. The addresses that it hands out lie nowhere.
  Layout() : Layout(Ptr<std::byte>(kNowhere), std::numeric_limits<int64_t>::max() / 2) {}
  /// Hands out.
  Layout(Ptr<std::byte> at, int64_t bytes) : at_(at), bytes_(bytes) {}

  /// Room for `count` numbers until the enclosing scope ends.
  template <class T>
  Ptr<T> take(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    const Ptr<std::byte> taken = rest(bytes);
    used_ += round_up(bytes, kAlignment);
    return taken.as<T>();
  }
  /// Room for one kernel while it runs: what is taken next lies there too.
  Ptr<std::byte> rest(int64_t bytes) {
    if (round_up(bytes, kAlignment) > bytes_ - used_)
      fail("INTERNAL", "a step asks for ", bytes, " bytes of workspace where ", bytes_ - used_, " are left");
    most_ = std::max(most_, used_ + round_up(bytes, kAlignment));
    return at_ + used_;
  }
  /// The most that was in use at a time.
  int64_t bytes() const { return most_; }

  /// Workspace taken during its lifetime is returned at the end.
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
