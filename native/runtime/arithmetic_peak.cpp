#include "runtime/arithmetic_peak.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "backends/cpu/device.h"

namespace lowrank {
namespace {

/// Windows counts the processor time of a thread in steps of 16 ms, which tell nothing of a sample.
bool counts_finely() {
  timespec step;
  return clock_getres(CLOCK_THREAD_CPUTIME_ID, &step) == 0 && step.tv_sec == 0 && step.tv_nsec <= 100'000;
}

}  // namespace

Clock::Clock(const Pool& pool) : own_(pool.threads() == 1 && counts_finely()) {}

double Clock::now() const {
  if (!own_) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double peak_rate(const Clock& clock, Pool& pool, cpu::PeakLoop loop) {
  std::vector<double> operations(pool.threads());
  const double seconds = clock.seconds([&] { pool.run([&](int thread, int) { operations[thread] = loop(); }); });
  double total = 0;
  for (const double own : operations) total += own;
  return total / seconds;
}

std::optional<double> arithmetic_peak(Context& context, Precision precision, int rounds) {
  const Clock clock(context.pool);
  const cpu::PeakLoop loop = cpu::peak_loop(cpu::device_of(context).kernels().level, precision);
  if (loop == nullptr) return {};
  double best = 0;
  for (int round = 0; round < rounds; ++round) best = std::max(best, peak_rate(clock, context.pool, loop));
  return best;
}

}  // namespace lowrank
