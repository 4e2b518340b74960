#include "core/pool.h"

#include <system_error>

#include "core/system.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lowrank {
namespace {

// About 50 us: longer than the gap between two kernels of a step, far shorter than anything a user would notice.
constexpr int kSpins = 2000;

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int threads, void (*begin)()) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int thread = 1; thread < threads; ++thread)
      workers_.emplace_back([this, thread, begin] { work(thread, begin); });
  } catch (const std::system_error&) {
    // The limit on processes is reached. Results do not depend on the number of threads: go on with fewer.
  }
}

Pool::~Pool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  system::wake_all(generation_);
  for (auto& worker : workers_) worker.join();
}

void Pool::dispatch(Call call, void* context) {
  const int count = threads();
  if (count == 1) {
    call(context, 0, 1);
    return;
  }
  call_ = call;
  context_ = context;
  running_.store(static_cast<uint32_t>(count - 1), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  system::wake_all(generation_);
  call(context, 0, count);
  for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      pause_cpu();
    } else if (const uint32_t left = running_.load(std::memory_order_acquire); left != 0) {
      system::wait(running_, left);
    }
  }
}

void Pool::work(int thread, void (*begin)()) {
  if (begin != nullptr) begin();
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; generation_.load(std::memory_order_acquire) == seen; ++spin) {
      if (spin < kSpins) {
        pause_cpu();
      } else {
        system::wait(generation_, seen);
      }
    }
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    call_(context_, thread, threads());
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) system::wake_all(running_);
  }
}

}  // namespace lowrank
