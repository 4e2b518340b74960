#include "core/pool.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <system_error>

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
    // The limit on processes is reached. Results do not depend on the number of threads, so those there are will do.
  }
}

Pool::~Pool() {
  stop_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
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
  running_.store(count - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  call(context, 0, count);
  for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      pause_cpu();
    } else if (const int32_t left = running_.load(std::memory_order_acquire); left != 0) {
      running_.wait(left, std::memory_order_acquire);
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
        generation_.wait(seen, std::memory_order_acquire);
      }
    }
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    call_(context_, thread, threads());
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  std::ifstream quota_file("/sys/fs/cgroup/cpu.max");  // "<quota or max> <period>", microseconds
  std::string quota;
  double period = 0;
  if (quota_file >> quota >> period && quota != "max" && period > 0) {
    const double limit = std::strtod(quota.c_str(), nullptr) / period;
    if (limit > 0) cores = std::min(cores, static_cast<int>(std::ceil(limit)));
  }
  return std::max(cores, 1);
}

}  // namespace lowrank
