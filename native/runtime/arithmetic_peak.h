// The arithmetic peak of this machine, which rates of kernels are measured against.
#pragma once

#include <optional>

#include "backends/cpu/peak.h"
#include "core/context.h"

namespace lowrank {

/// Seconds of what a pool's threads do. Other processes do not slow down a single thread that is timed by its CPU time.
class Clock {
 public:
  explicit Clock(const Pool& pool);
  template <class Body>
  double seconds(Body&& body) const {
    const double start = now();
    body();
    return now() - start;
  }

 private:
  double now() const;
  bool own_;  // CPU time of the calling thread
};

/// Operations per second of all threads together in a loop of multiply-adds.
double peak_rate(const Clock& clock, Pool& pool, cpu::PeakLoop loop);

/// The best rate of some rounds; none if the level has no such loop.
std::optional<double> arithmetic_peak(Context& context, Precision precision, int rounds);

}  // namespace lowrank
