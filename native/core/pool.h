// The process-wide thread pool. The thread that calls `run` is worker 0; the others spin briefly for new work and then
// sleep, so an idle pool uses no CPU and a busy one dispatches in about a microsecond. Kernels split work over outputs,
// never over a reduction, so results do not depend on the number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace lowrank {

class Pool {
 public:
  /// Creates fewer threads if the system refuses more. Each of them calls `begin` first.
  explicit Pool(int threads, void (*begin)() = nullptr);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs body(thread, threads) once on every thread and returns when all are done. `body` must not throw.
  /// Not reentrant: only the engine thread calls it.
  template <class Body>
  void run(Body&& body) {
    dispatch([](void* context, int thread,
                int count) { (*static_cast<std::remove_reference_t<Body>*>(context))(thread, count); },
             const_cast<void*>(static_cast<const void*>(&body)));
  }

  /// Calls body(begin, end) over chunks of [0, count); chunks of `grain` items are assigned dynamically, so a slow core
  /// takes fewer. Any chunk may run on any thread: the body must write only the outputs of its own items.
  template <class Body>
  void for_range(int64_t count, int64_t grain, Body&& body) {
    if (count <= 0) return;
    if (threads() == 1 || count <= grain) {
      body(int64_t{0}, count);
      return;
    }
    std::atomic<int64_t> next{0};
    run([&](int, int) {
      for (;;) {
        const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= count) return;
        body(begin, begin + grain < count ? begin + grain : count);
      }
    });
  }

 private:
  using Call = void (*)(void* context, int thread, int threads);
  void dispatch(Call call, void* context);
  void work(int thread, void (*begin)());

  std::vector<std::thread> workers_;
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::atomic<uint32_t> generation_{0};
  std::atomic<uint32_t> running_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace lowrank
