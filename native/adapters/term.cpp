#include "adapters/term.h"

namespace lowrank {

Ptr<float> draw_row_gains(Run& run, const DeltaDropout& dropout, int node, int64_t rows) {
  if (!run.training() || !dropout.any()) return {};
  const Ptr<float> gains = run.room->take<float>(rows);
  run.launch(DrawRows{rows, dropout.rows, dropout.all, dropout.rescale, run.dropout_key(node), gains});
  return gains;
}

}  // namespace lowrank
