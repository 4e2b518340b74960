// The engine thread: one per process, whatever the number of models, runs and worker threads. It runs one job at a time
// and is worker 0 of the one thread pool, so nothing competes for the cores and no kernel ever runs on JavaScript's thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "backends/cpu/kernels.h"
#include "core/context.h"
#include "device/device.h"

namespace lowrank {

class Engine {
 public:
  /// The process's engine. Never destroyed: its thread ends with its last user.
  static Engine& instance();

  /// Each JavaScript environment is one user, from `attach` to `detach`. The last one to leave waits until the jobs
  /// that are queued have run and the thread has ended; the others leave it to those that stay.
  void attach();
  void detach();

  /// Queues a job. It must not throw.
  void post(std::function<void(Context&)> job);

  /// Takes effect before the next job. `threads` 0 and an absent level keep what is set.
  void configure(int threads, std::optional<cpu::Level> level);
  int threads() const;
  cpu::Level level() const;
  /// Memory of the device that jobs run on, before one runs.
  Memory& memory() const;
  /// @param threads absent: those that are set
  std::unique_ptr<const KernelSizes> sizes(std::optional<int> threads = {}) const;

 private:
  Engine() = default;
  void work();

  mutable std::mutex mutex_;
  std::condition_variable wake_, ended_;
  std::deque<std::function<void(Context&)>> jobs_;
  std::thread thread_;
  bool stop_ = false;  // the last user is waiting for the thread to end
  int users_ = 0;
  mutable int threads_ = 0;  // 0: not decided yet
  mutable std::optional<cpu::Level> level_;
};

}  // namespace lowrank
