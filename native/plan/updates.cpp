#include "plan/updates.h"

#include <algorithm>

namespace lowrank {
void place_updates(const AdapterSpec& adapter, Plan& plan) {
  const auto count = static_cast<int>(adapter.parameters.size());
  const auto end = static_cast<int>(plan.steps.size());
  std::vector<int> begins(count, end), ends(count, end), nodes(count, plan.steps.back().node), buffers(count, -1);
  for (int i = 0; i < end; ++i) {
    for (const int p : plan.steps[i].adds) {
      if (begins[p] < end) continue;
      begins[p] = i;
      nodes[p] = plan.steps[i].node;
    }
    for (const int p : plan.steps[i].touches) ends[p] = begins[p] < end ? i : end;
  }
  for (int p = 0; p < count; ++p) {
    if (!adapter.trains(p)) continue;
    const ParameterSpec& own = adapter.parameters[p];
    Buffer buffer{"gradient of " + own.name, Category::gradients, DType::f32, RowKind::fixed, own.rows * own.cols};
    buffer.bytes = (buffer.cols * size_of(buffer.dtype) + 63) / 64 * 64;
    buffers[p] = static_cast<int>(plan.buffers.size());
    plan.buffers.push_back(std::move(buffer));
  }
  std::vector<Step> steps;
  const auto put = [&](const StepKind& kind, Phase phase, int parameter) {
    Step step;
    step.kind = &kind;
    step.phase = phase;
    step.node = nodes[parameter];
    step.parameter = parameter;
    step[&kind == &kZero ? PlanRole::zeroed : PlanRole::gradient] = buffers[parameter];
    if (&kind == &kZero) step.writes = {buffers[parameter]};
    steps.push_back(std::move(step));
  };
  for (int i = 0; i <= end; ++i) {
    const Phase phase = i < end ? plan.steps[i].phase : Phase::backward;
    for (int p = 0; p < count; ++p)
      if (begins[p] == i && buffers[p] >= 0) put(kZero, phase, p);
    if (i < end) {
      Step& step = plan.steps[i];
      for (const int p : step.adds) step.gradients.push_back(buffers[p]);
      steps.push_back(std::move(step));
    }
    for (int p = 0; p < count; ++p)
      if (ends[p] == i && buffers[p] >= 0) put(kUpdate, Phase::backward, p);
  }
  plan.steps = std::move(steps);
  plan.updates = true;
}

}  // namespace lowrank
