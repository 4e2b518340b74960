#include "runtime/arithmetic_peak.h"

#include "backends/cpu/device.h"
#include "check.h"

namespace lowrank {
namespace {

TEST("the arithmetic peak is that of the level's multiply-adds, and plain loops have none") {
  Pool pool(2);
  for (const cpu::Level level : cpu::kLevels) {
    if (!cpu::available(level)) continue;
    cpu::CpuDevice device(pool, cpu::kernels(level), cpu::CpuSizes(2));
    Context context{pool, device};
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const std::optional<double> peak = arithmetic_peak(context, precision, 1);
      CHECK_EQ(peak.has_value(), level != cpu::Level::reference);
      if (peak) CHECK(*peak > 1e7);
    }
  }
}

}  // namespace
}  // namespace lowrank
