// The optimizer's step on a device that computes nothing: what it launches, and all that it reads.
#include "optim/step.h"

#include <map>

#include "adapters/check.h"
#include "backends/cpu/device.h"
#include "check.h"
#include "device/null.h"

using namespace lowrank;

namespace {

std::map<std::string, int64_t> launches_of(AdapterSpec spec, OptimizerStep step, int64_t& downloaded) {
  check_adapter(spec);
  const cpu::CpuSizes sizes(1);
  NullDevice device(sizes);
  Adapter adapter(std::move(spec), device);
  step.groups = {{1e-3f, 0.01f}};
  step.step = 1;
  CHECK_EQ(optimizer_step(device, adapter, step), 0.0);
  std::map<std::string, int64_t> launches;
  for (const auto& [name, counts] : device.counts.kernels) launches[std::string(name)] = counts.launches;
  downloaded = device.counts.downloaded.at("gradient norms");
  CHECK_EQ(device.counts.downloaded.size(), size_t{1});
  return launches;
}

AdapterSpec two_matrices() {
  AdapterSpec spec;
  spec.parameters = {{"a", 4, 64, true}, {"b", 32, 4, true}, {"frozen", 8, 8, false}};
  spec.trainable = true;
  return spec;
}

}  // namespace

TEST("a step of AdamW is one launch for all parameters, and the host reads their sums of squares alone") {
  int64_t downloaded = 0;
  const auto launches = launches_of(two_matrices(), {}, downloaded);
  CHECK((launches == std::map<std::string, int64_t>{{"adamw", 1}, {"sum_of_squares", 2}, {"zero", 1}}));
  CHECK_EQ(downloaded, int64_t{16});
}

TEST("Adafactor updates matrix by matrix, and a projection comes before the update") {
  AdapterSpec spec = two_matrices();
  spec.parameters[0].trained = false;
  spec.projections = {{0, 1, 2.0f}};
  spec.state.kind = OptimizerKind::adafactor;
  OptimizerStep step;
  step.kind = OptimizerKind::adafactor;
  int64_t downloaded = 0;
  const auto launches = launches_of(spec, step, downloaded);
  CHECK((launches == std::map<std::string, int64_t>{
                         {"adafactor", 1}, {"project_gradient", 1}, {"sum_of_squares", 1}, {"zero", 1}}));
}
