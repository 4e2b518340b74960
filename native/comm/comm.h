// The processes that train together, a rank each, and what they exchange. An implementation moves bytes; sums are made above
// it, in the order of ranks.
#pragma once

#include <cstdint>
#include <string>

namespace lowrank {

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// The library that moves the bytes, with its version.
  virtual std::string library() const = 0;
  /// A rank whose process or machine has stopped, -1 where none has. From any thread.
  virtual int lost() const = 0;

  // Every rank has to make the same calls in the same order, with as many bytes. They return when all have made them, and throw
  // Error("RANKS") when one is lost.

  /// The bytes of all ranks one after the other: `all` has room for `size()` times as many as `own`.
  virtual void gather(const void* own, void* all, int64_t bytes) = 0;
  /// Piece i of `to` goes to rank i, and piece i of `from` is what rank i sends here. A piece has so many bytes.
  virtual void exchange(const void* to, void* from, int64_t bytes) = 0;
  /// Ends the exchange. No other call may follow.
  virtual void leave() = 0;

  /// Ends the processes of all ranks, from any thread, where the others cannot be waited for.
  virtual void end_all(int code) = 0;
};

}  // namespace lowrank
