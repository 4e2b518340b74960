#include "optim/step.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/error.h"
#include "optim/launcher.h"
#include "optim/triplets.h"

namespace lowrank {
namespace {

[[noreturn]] void diverged(const OptimizerStep& options) {
  fail("DIVERGED", "the gradient of step ", options.step,
       " is not finite; lower the learning rate or clip the gradient");
}

/// Sums over the squares of the gradients of parameters, in their order.
std::vector<double> squares_of(Launcher& launch, const Adapter& adapter, const std::vector<int>& parameters) {
  const auto bytes = static_cast<int64_t>(parameters.size() * sizeof(double));
  Memory& memory = launch.device().memory();
  const std::unique_ptr<Allocation> sums = memory.scratch(bytes);
  const Ptr<double> at = sums->data().as<double>();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParameterSpec& p = adapter.spec().parameters[parameters[i]];
    launch(
        SumOfSquares{p.rows * p.cols, adapter.at(parameters[i], AdapterArray::gradient), at + static_cast<int64_t>(i)});
  }
  std::vector<double> found(parameters.size());
  memory.download(found.data(), sums->data(), bytes, "gradient norms");
  return found;
}

std::vector<int> trained_parameters(const AdapterSpec& spec) {
  std::vector<int> trained;
  for (int i = 0; i < static_cast<int>(spec.parameters.size()); ++i)
    if (spec.trains(i)) trained.push_back(i);
  return trained;
}

double norm_of(Launcher& launch, const Adapter& adapter) {
  double squares = 0;
  for (const double sum : squares_of(launch, adapter, trained_parameters(adapter.spec()))) squares += sum;
  return std::sqrt(squares);
}

/// The rule of single elements on pieces of parameters.
void update_pieces(Launcher& launch, const OptimizerStep& options, float clip, std::span<const UpdatePiece> pieces) {
  if (pieces.empty()) return;
  if (options.kind == OptimizerKind::sgd) return launch(Sgd{options.beta1, clip, pieces});
  if (options.kind == OptimizerKind::lion) return launch(Lion{options.beta1, options.beta2, clip, pieces});
  launch(AdamW{options.beta1, options.beta2, options.epsilon, clip, pieces});
}

/// A stretch of a parameter, its state and its group's settings.
UpdatePiece piece_of(const Adapter& adapter, const OptimizerStep& options, const StatePiece& piece,
                     const std::vector<Moments>& state) {
  const auto& [rate, decay] = options.groups[adapter.spec().parameters[piece.parameter].group];
  UpdatePiece update{piece.count,
                     1,
                     adapter.at(piece.parameter) + piece.begin,
                     adapter.at(piece.parameter, AdapterArray::gradient) + piece.begin,
                     {},
                     {},
                     rate,
                     decay,
                     options.step};
  if (options.kind == OptimizerKind::sgd && options.beta1 == 0) return update;
  update.m = state[0];
  if (state.size() > 1) update.v = state[1];
  return update;
}

void update_adafactor(Launcher& launch, Adapter& adapter, const OptimizerStep& options, float clip, int parameter) {
  const ParameterSpec& p = adapter.spec().parameters[parameter];
  const auto& [rate, decay] = options.groups[p.group];
  const std::vector<Moments> state = adapter.state().views(parameter);
  const bool vector = state.size() == 1;
  launch(Adafactor{options.adafactor, rate, decay, options.step, clip, p.rows, p.cols,
                   adapter.at(parameter, AdapterArray::gradient), vector ? Ptr<float>() : state[0].floats,
                   vector ? Ptr<float>() : state[1].floats, vector ? state[0].floats : Ptr<float>(),
                   adapter.at(parameter)});
}

/// Updates all but what is updated rank by rank.
void update_whole(Launcher& launch, Adapter& adapter, const OptimizerStep& options, float clip, int only) {
  const AdapterSpec& spec = adapter.spec();
  if (options.kind == OptimizerKind::adafactor) {
    for (int i = 0; i < static_cast<int>(spec.parameters.size()); ++i)
      if (spec.trains(i) && (only < 0 || only == i)) update_adafactor(launch, adapter, options, clip, i);
    return;
  }
  std::vector<bool> apart(spec.parameters.size(), false);
  if (options.ranks)
    for (const TermFacts& term : spec.facts) apart[term.a] = apart[term.b] = true;
  OptimizerState& state = adapter.state();
  const auto visit = [&](const std::vector<StatePiece>& pieces, Ptr<std::byte> base) {
    std::vector<UpdatePiece> updates;
    for (const StatePiece& piece : pieces)
      if (!apart[piece.parameter]) updates.push_back(piece_of(adapter, options, piece, state.views(piece, base)));
    update_pieces(launch, options, clip, updates);
  };
  if (only < 0)
    state.sweep(visit);
  else
    state.visit(only, visit);
}

/// Updates A and B rank by rank.
void update_ranks(Launcher& launch, Adapter& adapter, const OptimizerStep& options, float clip, int only) {
  const AdapterSpec& spec = adapter.spec();
  const auto whole = [&](int parameter) {
    const ParameterSpec& p = spec.parameters[parameter];
    return piece_of(adapter, options, {parameter, 0, p.rows * p.cols}, adapter.state().views(parameter));
  };
  std::vector<UpdatePiece> pieces;
  for (const TermFacts& term : spec.facts)
    for (const int index : {term.a, term.b})
      if (spec.trains(index) && (only < 0 || only == index))
        add_ranks(pieces, *options.ranks, term.rank, whole(index), index == term.b);
  update_pieces(launch, options, clip, pieces);
}

/// Moves every trained parameter, or `only` one, by its regularized gradient.
void update(Launcher& launch, Adapter& adapter, const OptimizerStep& options, float clip, int only = -1) {
  const AdapterSpec& spec = adapter.spec();
  for (const auto& [a, b, scale] : spec.projections)
    if (only < 0 || only == b)
      launch(ProjectGradient{spec.parameters[a].rows, spec.parameters[a].cols, adapter.at(a), spec.parameters[b].rows,
                             scale, adapter.at(b, AdapterArray::gradient)});
  if (options.ranks) update_ranks(launch, adapter, options, clip, only);
  update_whole(launch, adapter, options, clip, only);
  follow_importances(launch, adapter, clip, only);
}

void zero_gradients(Launcher& launch, const Adapter& adapter) {
  launch(Zero{adapter.span(AdapterArray::gradient).as<std::byte>(),
              adapter.spec().trained_elements * static_cast<int64_t>(sizeof(float))});
}

}  // namespace

void check_step(const AdapterSpec& spec, const OptimizerStep& options) {
  if (!spec.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (options.step < 1) fail("CONFIG", "the optimizer's step is ", options.step, "; steps count from 1");
  if (options.ranks && options.kind == OptimizerKind::adafactor)
    fail("CONFIG",
         "updates by rank are not possible with adafactor, which updates whole matrices; use another "
         "optimizer");
  StateSpec needed = spec.state;
  needed.kind = options.kind;
  needed.momentum = options.beta1 != 0;
  for (const ParameterSpec& p : spec.parameters) {
    if (!p.trained) continue;
    if (p.group < 0 || p.group >= static_cast<int>(options.groups.size()))
      fail("CONFIG", "parameter ", p.name, " is in optimizer group ", p.group, ", but the step has ",
           options.groups.size(), " groups");
    const std::vector<StateArray> has = state_arrays(p, spec.state), needs = state_arrays(p, needed);
    if (needs.size() > has.size() || !std::equal(needs.begin(), needs.end(), has.begin()))
      fail("CONFIG", "parameter ", p.name, " has the state of another optimizer");
  }
  if (options.ranks) check_ranks(spec, *options.ranks);
}

std::vector<double> gradient_squares(Device& device, const Adapter& adapter) {
  Launcher launch(device);
  return squares_of(launch, adapter, trained_parameters(adapter.spec()));
}

double optimizer_step(Device& device, Adapter& adapter, const OptimizerStep& options) {
  const AdapterSpec& spec = adapter.spec();
  check_step(spec, options);
  if (!adapter.span(AdapterArray::gradient))
    fail("CONFIG", "the adapter is updated in the backward pass and keeps no gradients");
  const std::unique_ptr<Device> checked =
      check_asked_for() == "operands" ? device.operand_check(adapter.update_memory()) : nullptr;
  Launcher launch(checked ? *checked : device);
  add_orthogonal_gradients(launch, adapter);
  const double norm = options.grad_norm ? *options.grad_norm : norm_of(launch, adapter);
  if (!std::isfinite(norm)) {
    zero_gradients(launch, adapter);  // what was added to them must not be there twice, should the caller go on
    diverged(options);
  }
  const float clip = options.max_grad_norm > 0
                         ? static_cast<float>(std::min(1.0, options.max_grad_norm / (norm + 1e-6)))  // as torch clips
                         : 1.0f;
  update(launch, adapter, options, clip);
  adapter.values_changed();
  zero_gradients(launch, adapter);
  return norm;
}

double update_parameter(Device& device, Adapter& adapter, const OptimizerStep& options, int parameter) {
  Launcher launch(device);
  add_orthogonal_gradients(launch, adapter, parameter);
  const double squares = squares_of(launch, adapter, {parameter}).front();
  if (!std::isfinite(squares)) diverged(options);
  update(launch, adapter, options, 1, parameter);
  return squares;
}

}  // namespace lowrank
