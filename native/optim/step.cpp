#include "optim/step.h"

#include <algorithm>
#include <cmath>

#include "adapters/triplets.h"
#include "backends/cpu/device.h"
#include "backends/cpu/row_norms.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr double kRidge = 1e-8;  // keeps the Gram matrix invertible when rows of A depend on each other

/// Lower Cholesky factor of A A^T + kRidge I, [rank, rank], in place of its lower half.
std::vector<double> gram_factor(Pool& pool, const float* a, int64_t rank, int64_t cols) {
  std::vector<double> gram(rank * rank);
  cpu::gram_of_rows(pool, a, rank, cols, cols, gram.data());
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

/// An update of single elements.
void update_elements(const cpu::OpKernels& ops, const OptimizerStep& options, const GroupSettings& group, float clip,
                     int64_t step, int64_t count, const float* gradient, const std::vector<StateView>& state, float* p) {
  const auto [rate, decay] = group;
  if (options.kind == OptimizerKind::sgd) {
    float* const momentum = options.beta1 != 0 ? state[0].floats : nullptr;
    return ops.sgd(count, {rate, options.beta1, decay, clip}, gradient, momentum, p);
  }
  const bool coded = state[0].floats == nullptr;
  if (options.kind == OptimizerKind::lion) {
    const cpu::Lion lion{rate, options.beta1, options.beta2, decay, clip};
    return coded ? ops.lion_8bit(count, lion, gradient, state[0].codes, p)
                 : ops.lion(count, lion, gradient, state[0].floats, p);
  }
  const cpu::AdamW adamw{rate, options.beta1, options.beta2, options.epsilon, decay, step, clip};
  if (coded) return ops.adamw_8bit(count, adamw, gradient, state[0].codes, state[1].codes, p);
  ops.adamw(count, adamw, gradient, state[0].floats, state[1].floats, p);
}

/// Elements of a piece of the state that are updated by one thread, counted from where the piece begins.
struct Share {
  const StatePiece* piece;
  int64_t begin, count;
};

/// @param ranked leaves out A and B of slots, whose ranks are updated one by one
std::vector<Share> shares_of(const AdapterSpec& spec, const std::vector<StatePiece>& pieces, bool ranked) {
  std::vector<bool> apart(spec.parameters.size(), false);
  if (ranked)
    for (const LowRankSlot& slot : spec.slots) apart[slot.a] = apart[slot.b] = true;
  constexpr int64_t kMost = 32768;
  static_assert(kMost % kDynamicBlock == 0);
  std::vector<Share> shares;
  for (const StatePiece& piece : pieces)
    for (int64_t begin = 0; begin < piece.count && !apart[piece.parameter]; begin += kMost)
      shares.push_back({&piece, begin, std::min(kMost, piece.count - begin)});
  return shares;
}

[[noreturn]] void diverged(const OptimizerStep& options) {
  fail("DIVERGED", "the gradient of step ", options.step, " is not finite; lower the learning rate or clip the gradient");
}

double squares_of(Context& context, const Adapter& adapter, int parameter) {
  const ParameterSpec& p = adapter.spec().parameters[parameter];
  return cpu::device_of(context).kernels().ops.sum_of_squares(context.pool, p.rows * p.cols, adapter.data(parameter, AdapterArray::gradient));
}

/// Updates all but what is updated rank by rank.
void update_elements_of(Context& context, Adapter& adapter, const OptimizerStep& options, float clip, int only) {
  const AdapterSpec& spec = adapter.spec();
  OptimizerState& state = adapter.state();
  if (options.kind == OptimizerKind::adafactor) {
    for (size_t i = 0; i < spec.parameters.size(); ++i) {
      const ParameterSpec& p = spec.parameters[i];
      if (!p.trained || (only >= 0 && only != static_cast<int>(i))) continue;
      Adafactor settings = options.adafactor;
      settings.learning_rate = options.groups[p.group].learning_rate;
      settings.weight_decay = options.groups[p.group].weight_decay;
      settings.step = options.step;
      settings.grad_scale = clip;
      const int index = static_cast<int>(i);
      adafactor(context.pool, settings, p.rows, p.cols, adapter.data(index, AdapterArray::gradient), state.views(index),
                adapter.data(index));
    }
    return;
  }
  const auto visit = [&](const std::vector<StatePiece>& pieces, std::byte* base) {
    const std::vector<Share> shares = shares_of(spec, pieces, options.ranks.has_value());
    context.pool.for_range(static_cast<int64_t>(shares.size()), 1, [&](int64_t first, int64_t last) {
      for (int64_t at = first; at < last; ++at) {
        const auto [piece, begin, count] = shares[at];
        std::vector<StateView> views = state.views(*piece, base);
        for (StateView& view : views) view = view.from(begin);
        const int64_t element = piece->begin + begin;
        update_elements(cpu::device_of(context).kernels().ops, options, options.groups[spec.parameters[piece->parameter].group], clip,
                        options.step, count, adapter.data(piece->parameter, AdapterArray::gradient) + element, views,
                        adapter.data(piece->parameter) + element);
      }
    });
  };
  if (only < 0)
    state.sweep(visit);
  else
    state.visit(only, visit);
}

/// Moves every trained parameter, or `only` one, by its regularized gradient.
void update(Context& context, Adapter& adapter, const OptimizerStep& options, float clip, int only = -1) {
  for (const GradientProjection& projection : adapter.spec().projections)
    if (only < 0 || only == projection.b) project_gradient(context, adapter, projection);
  if (options.ranks)
    update_ranks(
        context, adapter, *options.ranks,
        [&](int group, int64_t step, int64_t count, const float* g, const std::vector<StateView>& state, float* p) {
          update_elements(cpu::device_of(context).kernels().ops, options, options.groups[group], clip, step, count, g, state, p);
        },
        only);
  update_elements_of(context, adapter, options, clip, only);
  follow_importances(context.pool, adapter, clip, only);
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

void check_step(const AdapterSpec& spec, const OptimizerStep& options) {
  if (!spec.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (options.step < 1) fail("CONFIG", "the optimizer's step is ", options.step, "; steps count from 1");
  if (options.ranks && options.kind == OptimizerKind::adafactor)
    fail("CONFIG", "ranks are updated one by one, and adafactor updates all of a matrix together; take another optimizer");
  StateSpec needed = spec.state;
  needed.kind = options.kind;
  needed.momentum = options.beta1 != 0;
  for (const ParameterSpec& p : spec.parameters) {
    if (!p.trained) continue;
    if (p.group < 0 || p.group >= static_cast<int>(options.groups.size()))
      fail("CONFIG", "parameter ", p.name, " is in optimizer group ", p.group, ", and the step has ",
           options.groups.size(), " groups");
    const std::vector<StateArray> has = state_arrays(p, spec.state), needs = state_arrays(p, needed);
    if (needs.size() > has.size() || !std::equal(needs.begin(), needs.end(), has.begin()))
      fail("CONFIG", "parameter ", p.name, " has the state of another optimizer than the step's");
  }
  if (options.ranks) check_ranks(spec, *options.ranks);
}

double optimizer_step(Context& context, Adapter& adapter, const OptimizerStep& options) {
  const AdapterSpec& spec = adapter.spec();
  check_step(spec, options);
  float* const gradients = adapter.span(AdapterArray::gradient);
  if (gradients == nullptr) fail("CONFIG", "the adapter is updated in the backward pass, and has no gradients after it");
  add_orthogonal_gradients(context.pool, adapter);
  double squares = 0;
  for (int i = 0; i < static_cast<int>(spec.parameters.size()); ++i)
    if (spec.trains(i)) squares += squares_of(context, adapter, i);
  const double norm = std::sqrt(squares);
  if (!std::isfinite(norm)) {
    // What was added to them must not be there twice, should the caller go on.
    std::fill(gradients, gradients + spec.trained_elements, 0.0f);
    diverged(options);
  }
  const float clip = options.max_grad_norm > 0
                         ? static_cast<float>(std::min(1.0, options.max_grad_norm / (norm + 1e-6)))  // as torch clips
                         : 1.0f;
  update(context, adapter, options, clip);
  adapter.values_changed();
  std::fill(gradients, gradients + spec.trained_elements, 0.0f);
  return norm;
}

double update_parameter(Context& context, Adapter& adapter, const OptimizerStep& options, int parameter) {
  add_orthogonal_gradients(context.pool, adapter, parameter);
  const double squares = squares_of(context, adapter, parameter);
  if (!std::isfinite(squares)) diverged(options);
  update(context, adapter, options, 1, parameter);
  return squares;
}

}  // namespace lowrank
