// A direct connection between the devices of ranks that train together: numbers move from memory to memory, without the
// host.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "device/memory.h"

namespace lowrank {

/// All ranks must make the same calls in the same order with equal counts. Work runs in order with the device's own,
/// and is complete once `finish` has returned true.
class Link {
 public:
  virtual ~Link() = default;
  /// The library that moves the numbers, with its version.
  virtual std::string library() const = 0;
  virtual int ranks() const = 0;
  /// Memory of the device that it connects.
  virtual Memory& memory() = 0;

  /// Concatenates the numbers of all ranks: `all` has room for `ranks()` times `count`.
  virtual void gather(Ptr<float> own, Ptr<float> all, int64_t count) = 0;
  /// Sends piece i of `to` to rank i, and receives piece i of `from` from rank i. `count` is the size of a piece.
  virtual void exchange(Ptr<float> to, Ptr<float> from, int64_t count) = 0;
  /// to = the sum of `ranks()` pieces, in their order.
  virtual void add(Ptr<float> pieces, int64_t count, Ptr<float> to) = 0;
  virtual void zero(Ptr<float> at, int64_t count) = 0;
  /// Waits for the work. False once `given_up` says so: the connection is then closed, what was under way is undefined,
  /// and no other call may follow. Throws if the library reports an error, which closes it as well.
  virtual bool finish(const std::function<bool()>& given_up) = 0;
};

}  // namespace lowrank
