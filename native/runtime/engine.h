// The engine thread: one per process, whatever the number of models, runs, and worker threads. It runs one job at a
// time and is worker 0 of the one thread pool, so nothing competes for cores, and JavaScript's thread runs no kernel.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "backends/cpu/kernels.h"
#include "comm/comm.h"
#include "comm/sums.h"
#include "core/context.h"
#include "device/device.h"
#include "runtime/gpus.h"

namespace lowrank {

class Engine {
 public:
  /// The process's engine. Never destroyed; its thread ends with its last user.
  static Engine& instance();

  /// Each JavaScript environment is one user, from `attach` to `detach`. The last one to leave waits until the queued
  /// jobs have run and the thread has ended; the others leave this to the remaining ones.
  void attach();
  void detach();

  /// Queues a job, which must not throw.
  /// @param memory of the device it runs on; null for the CPU's
  void post(std::function<void(Context&)> job, const Memory* memory = nullptr);

  /// Takes effect before the next job. `threads` 0 and an absent level keep the current setting.
  void configure(int threads, std::optional<cpu::Level> level);
  int threads() const;
  cpu::Level level() const;
  /// The GPUs of this machine.
  Gpus& gpus() { return gpus_; }
  /// The ranks that train together; only this process until it joins others. For jobs.
  Comm& comm() { return *comm_; }
  /// Their sums of gradients.
  Sums& sums() { return *sums_; }
  void set_comm(std::unique_ptr<Comm> comm);
  /// The connection of a GPU with those of the other ranks; null without one. For jobs.
  Link* link() { return link_.get(); }
  /// All ranks must call these. Throws Error("DEVICE") or Error("RANKS") if that fails.
  void connect(const std::string& device, const cuda::NcclId& id);
  void disconnect() { link_.reset(); }
  /// Memory of a device, "cpu" or "cuda:N", before a job runs on it. Throws Error("DEVICE") if it cannot be used.
  Memory& memory(const std::string& device);
  /// @param threads of the CPU; default: the current setting
  std::unique_ptr<const KernelSizes> sizes(const std::string& device, std::optional<int> threads = {});

 private:
  Engine();
  void work();

  mutable std::mutex mutex_;
  std::condition_variable wake_, ended_;
  struct Job {
    std::function<void(Context&)> work;
    Device* device;  // null: the CPU
  };
  std::deque<Job> jobs_;
  std::thread thread_;
  bool stop_ = false;  // the last user is waiting for the thread to end
  int users_ = 0;
  mutable int threads_ = 0;  // 0: not decided yet
  mutable std::optional<cpu::Level> level_;
  Gpus gpus_;
  std::unique_ptr<Comm> comm_;
  std::unique_ptr<Sums> sums_;
  std::unique_ptr<Link> link_;
};

}  // namespace lowrank
