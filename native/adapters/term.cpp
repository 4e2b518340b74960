#include "adapters/term.h"

namespace lowrank {

int materialize_hidden(Planner& plan, const Term& term, const StepKind& kind, int node, int64_t width) {
  if (plan.part(node) >= 0) return plan.part(node);
  Step step = plan.step(kind, Phase::recompute, node);
  step.term = &term;
  step.x = plan.materialize(plan.node(node).inputs[0]);
  const int made = step.aux = plan.hidden(node, width);
  step.writes = {made};
  plan.touch(step, node);
  plan.push(std::move(step));
  return made;
}

Ptr<float> draw_row_gains(Run& run, const DeltaDropout& dropout, int node, int64_t rows) {
  if (!run.training() || !dropout.any()) return {};
  const Ptr<float> gains = run.room->take<float>(rows);
  run.launch(DrawRows{rows, dropout.rows, dropout.all, dropout.rescale, run.dropout_key(node), gains});
  return gains;
}

void ProductRows::add(int64_t row, std::span<float> sum) const {
  for (int64_t j = 0; j < rank_; ++j) {
    const float factor = b_[row * rank_ + j];
    const float* a = a_ + j * ld_;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * a[i];
  }
}

}  // namespace lowrank
