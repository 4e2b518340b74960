// Communication between processes that train together, one rank each. Implementations only move bytes; sums are
// computed above, in rank order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace lowrank {

/// Collective calls: all ranks must make the same ones in the same order with equal sizes. They return once all have
/// made them, and throw Error("RANKS") when a rank is lost.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Concatenates the bytes of all ranks: `all` has room for `size()` times the size of `own`.
  virtual void gather(const void* own, void* all, int64_t bytes) = 0;
  /// Sends piece i of `to` to rank i, and receives piece i of `from` from rank i. `bytes` is the size of a piece.
  virtual void exchange(const void* to, void* from, int64_t bytes) = 0;
};

class Comm : public Collective {
 public:
  /// The library that moves the bytes, with its version.
  virtual std::string library() const = 0;
  /// A rank whose process or machine has stopped; -1 if none has. Callable from any thread.
  virtual int lost() const = 0;
  /// Collective calls from another thread, independent of those made here; null if the library does not allow them.
  /// Must not outlive this.
  virtual std::unique_ptr<Collective> beside() = 0;

  // Messages between two ranks, which arrive in order. They also throw Error("RANKS") when a rank is lost.

  /// Starts to send, and returns while the bytes are under way: they must stay until `sent`.
  virtual void send(int to, const void* data, int64_t bytes) = 0;
  /// Waits until nothing that was sent to a rank is under way.
  virtual void sent(int to) = 0;
  /// Waits for the next message of a rank, which may be shorter than `bytes`.
  virtual void receive(int from, void* data, int64_t bytes) = 0;

  /// Returns once all ranks have called it and nothing is under way. Only the next two may follow.
  virtual void leave() = 0;
  /// Closes the library, which can take forever: MPI_Finalize of MPICH 4.0 does not always return over TCP.
  virtual void close() = 0;

  /// Terminates the processes of all ranks, from any thread, when the others cannot be waited for. After `leave`, only
  /// this process.
  virtual void end_all(int code) = 0;
};

}  // namespace lowrank
