#include "core/pool.h"

#include <chrono>
#include <system_error>

#include "core/system.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lowrank {
namespace {

using Clock = std::chrono::steady_clock;
// Longer than most gaps between two kernels of a step, far shorter than anything a user would notice. To fall asleep
// and be woken takes about half as long.
constexpr auto kSpinTime = std::chrono::microseconds(100);
// A pause takes from 1 to 50 ns, depending on the CPU.
constexpr int kPausesPerLook = 64;

inline void pause_cpu() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until a value is wanted, awake for a while and then asleep.
template <class Wanted>
void await(const std::atomic<uint32_t>& value, Wanted&& wanted) {
  Clock::time_point end{};
  for (int spin = 1;; ++spin) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (wanted(now)) return;
    if (end == Clock::time_point::max()) {
      system::wait(value, now);
      continue;
    }
    pause_cpu();
    if (spin % kPausesPerLook != 0) continue;
    const auto time = Clock::now();
    if (spin == kPausesPerLook) {
      end = time + kSpinTime;
    } else if (time >= end) {
      end = Clock::time_point::max();
    }
  }
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
  await(running_, [](uint32_t running) { return running == 0; });
}

void Pool::work(int thread, void (*begin)()) {
  if (begin != nullptr) begin();
  uint32_t seen = 0;
  for (;;) {
    await(generation_, [&](uint32_t generation) { return generation != seen; });
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    call_(context_, thread, threads());
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) system::wake_all(running_);
  }
}

}  // namespace lowrank
