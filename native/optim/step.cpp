#include "optim/step.h"

#include <algorithm>
#include <cmath>

#include "adapters/row_norms.h"
#include "adapters/triplets.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr double kRidge = 1e-8;  // keeps the Gram matrix invertible when rows of A depend on each other

/// Lower Cholesky factor of A A^T + kRidge I, [rank, rank], in place of its lower half.
std::vector<double> gram_factor(Pool& pool, const float* a, int64_t rank, int64_t cols) {
  std::vector<double> gram(rank * rank);
  gram_of_rows(pool, a, rank, cols, cols, gram.data());
  for (int64_t i = 0; i < rank; ++i) gram[i * rank + i] += kRidge;
  for (int64_t j = 0; j < rank; ++j) {
    for (int64_t i = j; i < rank; ++i) {
      double sum = gram[i * rank + j];
      for (int64_t k = 0; k < j; ++k) sum -= gram[i * rank + k] * gram[j * rank + k];
      // A row of A that others span leaves rounding only, of either sign.
      if (i == j)
        gram[i * rank + i] = std::sqrt(std::max(sum, kRidge));
      else
        gram[i * rank + j] = sum / gram[j * rank + j];
    }
  }
  return gram;
}

/// Runs of trained parameters that lie side by side and share their settings: (group, begin, end) in elements.
struct Run {
  int group;
  int64_t begin, end;
};

/// @param ranked leaves out A and B of slots, whose ranks are updated one by one
std::vector<Run> runs_of(const AdapterSpec& spec, size_t groups, bool ranked) {
  std::vector<bool> apart(spec.parameters.size(), false);
  if (ranked)
    for (const LowRankSlot& slot : spec.slots) apart[slot.a] = apart[slot.b] = true;
  std::vector<const ParameterSpec*> trained;
  for (const ParameterSpec& p : spec.parameters)
    if (p.trained) trained.push_back(&p);
  std::sort(trained.begin(), trained.end(),
            [](const ParameterSpec* a, const ParameterSpec* b) { return a->offset < b->offset; });
  std::vector<Run> runs;
  for (const ParameterSpec* p : trained) {
    if (p->group < 0 || p->group >= static_cast<int>(groups))
      fail("CONFIG", "parameter ", p->name, " is in optimiser group ", p->group, ", and the step has ", groups,
           " groups");
    if (apart[p - spec.parameters.data()]) continue;
    const int64_t end = p->offset + p->rows * p->cols;
    if (!runs.empty() && runs.back().group == p->group && runs.back().end == p->offset)
      runs.back().end = end;
    else
      runs.push_back({p->group, p->offset, end});
  }
  return runs;
}

}  // namespace

void project_gradient(Context& context, const Adapter& adapter, const GradientProjection& projection) {
  const ParameterSpec& a = adapter.spec().parameters[projection.a];
  const ParameterSpec& b = adapter.spec().parameters[projection.b];
  float* const gradient = adapter.data(projection.b, AdapterArray::gradient);
  const int64_t rank = a.rows;
  const std::vector<double> factor = gram_factor(context.pool, adapter.data(projection.a), rank, a.cols);
  const double gain = 1 / (double{projection.scale} * projection.scale);
  context.pool.for_range(b.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<double> row(rank);
    for (int64_t i = begin; i < end; ++i) {
      float* const g = gradient + i * rank;
      for (int64_t j = 0; j < rank; ++j) {
        double sum = gain * g[j];
        for (int64_t k = 0; k < j; ++k) sum -= factor[j * rank + k] * row[k];
        row[j] = sum / factor[j * rank + j];
      }
      for (int64_t j = rank - 1; j >= 0; --j) {
        double sum = row[j];
        for (int64_t k = j + 1; k < rank; ++k) sum -= factor[k * rank + j] * row[k];
        row[j] = sum / factor[j * rank + j];
      }
      for (int64_t j = 0; j < rank; ++j) g[j] = static_cast<float>(row[j]);
    }
  });
}

double optimizer_step(Context& context, Adapter& adapter, const OptimizerStep& options) {
  const AdapterSpec& spec = adapter.spec();
  if (!spec.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (options.step < 1) fail("CONFIG", "the optimiser's step is ", options.step, "; steps count from 1");
  const std::vector<Run> runs = runs_of(spec, options.groups.size(), options.ranks.has_value());
  float* const gradients = adapter.span(AdapterArray::gradient);
  const cpu::OpKernels& ops = context.kernels.ops;
  add_orthogonal_gradients(context.pool, adapter);
  const double norm = std::sqrt(ops.sum_of_squares(context.pool, spec.trained_elements, gradients));
  if (!std::isfinite(norm)) {
    // What was added to them must not be there twice, should the caller go on.
    std::fill(gradients, gradients + spec.trained_elements, 0.0f);
    fail("DIVERGED", "the gradient of step ", options.step,
         " is not finite; lower the learning rate or clip the gradient");
  }
  const float clip = options.max_grad_norm > 0
                         ? static_cast<float>(std::min(1.0, options.max_grad_norm / (norm + 1e-6)))  // as torch clips
                         : 1.0f;
  for (const GradientProjection& projection : spec.projections) project_gradient(context, adapter, projection);
  const UpdateRule update = [&](Pool& pool, int index, int64_t step, int64_t count, const float* g, float* m, float* v,
                                float* p) {
    const GroupSettings& group = options.groups[index];
    if (options.kind == OptimizerKind::sgd)
      return ops.sgd(pool, count, {group.learning_rate, options.beta1, group.weight_decay, clip}, g, m, p);
    const cpu::AdamW adamw{group.learning_rate, options.beta1, options.beta2, options.epsilon,
                           group.weight_decay,  step,          clip};
    ops.adamw(pool, count, adamw, g, m, v, p);
  };
  if (options.ranks) update_ranks(context, adapter, *options.ranks, update);
  for (const Run& run : runs) {
    update(context.pool, run.group, options.step, run.end - run.begin, gradients + run.begin,
           adapter.span(AdapterArray::m) + run.begin, adapter.span(AdapterArray::v) + run.begin,
           adapter.span(AdapterArray::value) + run.begin);
  }
  adapter.values_changed();
  follow_importances(context.pool, adapter, clip);
  std::fill(gradients, gradients + spec.trained_elements, 0.0f);
  return norm;
}

}  // namespace lowrank
