// Sums over ranks on a thread of their own, while the caller goes on computing.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/comm.h"

namespace lowrank {

/// For one thread. All ranks must add sums of the same sizes in the same order. Where the library does not allow calls
/// from other threads, `wait` makes the sums instead.
class Sums {
 public:
  /// All ranks must construct it at the same point.
  /// @param comm must outlive this
  explicit Sums(Comm& comm);
  ~Sums();
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;

  int ranks() const { return comm_.size(); }
  /// Queues the sum of values in place, which nothing else may access until `wait` has returned.
  /// @param owner keeps the values in memory
  void add(float* values, int64_t count, std::shared_ptr<const void> owner = nullptr);
  /// Number of sums since the last `wait`.
  int64_t added() const { return static_cast<int64_t>(counts_.size()); }
  /// Returns when all sums are complete. Throws the error of one that failed.
  void wait();
  /// Completes the sums that a failed step has left incomplete on some ranks. All ranks must call it.
  void settle();

 private:
  struct Sum {
    float* values;
    int64_t count;
    std::shared_ptr<const void> owner;
  };
  void work();
  void make(const Sum& sum);

  Comm& comm_;
  const std::unique_ptr<Collective> beside_;
  std::vector<int64_t> counts_;  // sizes of the sums since the last wait
  int64_t total_ = 0;            // number of all sums so far
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Sum> sums_;  // the first of them is under way
  std::exception_ptr error_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace lowrank
