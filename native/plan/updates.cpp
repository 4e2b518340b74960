#include "plan/updates.h"

#include <algorithm>

namespace lowrank {
namespace {

/// What of a node an adapter trains.
struct Trained {
  std::vector<int> factors;  // of a low-rank slot, without the magnitude
  std::vector<int> kroneckers;
  int magnitude = -1, weight = -1, bias = -1;
};

Trained trained_at(const Graph& graph, const Plan& plan, const AdapterSpec& adapter, int node) {
  Trained found;
  const auto only_trained = [&](int parameter) { return adapter.trains(parameter) ? parameter : -1; };
  const auto add = [&](std::vector<int>& to, std::initializer_list<int> parameters) {
    for (const int parameter : parameters)
      if (adapter.trains(parameter)) to.push_back(parameter);
  };
  const auto copy_of = [&](int weight) {
    return weight >= 0 && plan.copies[weight].adapter == 0 ? only_trained(plan.copies[weight].parameter) : -1;
  };
  if (const int index = plan.slots[0][node]; index >= 0) {
    const LowRankSlot& s = adapter.slots[index];
    add(found.factors, {s.a, s.b, s.d, s.b_gain, s.a2, s.b2});
    found.magnitude = only_trained(s.magnitude);
  }
  if (const int index = plan.kroneckers[0][node]; index >= 0) {
    const KroneckerSlot& s = adapter.kroneckers[index];
    add(found.kroneckers, {s.c, s.c2, s.d, s.d2});
  }
  found.weight = copy_of(graph.nodes[node].weight);
  found.bias = copy_of(graph.nodes[node].bias);
  return found;
}

/// Ascending, each once, and no -1.
std::vector<int> tidied(std::vector<int> parameters) {
  std::erase(parameters, -1);
  std::sort(parameters.begin(), parameters.end());
  parameters.erase(std::unique(parameters.begin(), parameters.end()), parameters.end());
  return parameters;
}

}  // namespace

std::vector<int> parameters_touched(const Graph& graph, const Plan& plan, const AdapterSpec& adapter, const Step& step) {
  std::vector<int> found;
  const auto add_all = [&](int node) {
    const Trained trained = trained_at(graph, plan, adapter, node);
    for (const std::vector<int>* list : {&trained.factors, &trained.kroneckers})
      found.insert(found.end(), list->begin(), list->end());
    found.insert(found.end(), {trained.magnitude, trained.weight, trained.bias});
  };
  switch (step.kernel) {
    case Kernel::rope:
    case Kernel::rope_backward:
    case Kernel::attention:
    case Kernel::attention_backward:
    case Kernel::swiglu:
    case Kernel::swiglu_backward:
    case Kernel::offload:
    case Kernel::reload:
    case Kernel::zero:
    case Kernel::update:
      break;
    case Kernel::linear_input_gradient:
      for (const GradientTerm& term : step.terms) add_all(term.node);
      break;
    default:
      add_all(step.node);
  }
  return tidied(std::move(found));
}

std::vector<int> gradients_added(const Graph& graph, const Plan& plan, const AdapterSpec& adapter, const Step& step) {
  switch (step.kernel) {
    case Kernel::linear_param_gradient:
    case Kernel::embedding_adapter_gradient:
      return tidied(trained_at(graph, plan, adapter, step.node).factors);
    case Kernel::kronecker_gradient:
      return tidied(trained_at(graph, plan, adapter, step.node).kroneckers);
    case Kernel::magnitude_gradient:
      return tidied({trained_at(graph, plan, adapter, step.node).magnitude});
    case Kernel::head_loss:
    case Kernel::norm_gradient:
    case Kernel::embedding_gradient:
      return tidied({trained_at(graph, plan, adapter, step.node).weight});
    case Kernel::weight_gradient: {
      const Trained trained = trained_at(graph, plan, adapter, step.node);
      return tidied({trained.weight, trained.bias});
    }
    default:
      return {};
  }
}

void place_updates(const Graph& graph, const AdapterSpec& adapter, Plan& plan) {
  const auto count = static_cast<int>(adapter.parameters.size());
  const auto end = static_cast<int>(plan.steps.size());
  std::vector<int> begins(count, end), ends(count, end), nodes(count, plan.steps.back().node), buffers(count, -1);
  for (int i = 0; i < end; ++i) {
    for (const int p : gradients_added(graph, plan, adapter, plan.steps[i])) {
      if (begins[p] < end) continue;
      begins[p] = i;
      nodes[p] = plan.steps[i].node;
    }
    for (const int p : parameters_touched(graph, plan, adapter, plan.steps[i])) ends[p] = begins[p] < end ? i : end;
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
  const auto put = [&](Kernel kernel, Phase phase, int parameter) {
    Step step;
    step.kernel = kernel;
    step.phase = phase;
    step.node = nodes[parameter];
    step.parameter = parameter;
    (kernel == Kernel::zero ? step.dx : step.dy) = buffers[parameter];
    steps.push_back(std::move(step));
  };
  for (int i = 0; i <= end; ++i) {
    const Phase phase = i < end ? plan.steps[i].phase : Phase::backward;
    for (int p = 0; p < count; ++p)
      if (begins[p] == i && buffers[p] >= 0) put(Kernel::zero, phase, p);
    if (i < end) {
      Step& step = plan.steps[i];
      for (const int p : gradients_added(graph, plan, adapter, step)) step.gradients.push_back(buffers[p]);
      steps.push_back(std::move(step));
    }
    for (int p = 0; p < count; ++p)
      if (ends[p] == i && buffers[p] >= 0) put(Kernel::update, Phase::backward, p);
  }
  plan.steps = std::move(steps);
  plan.updates = true;
}

}  // namespace lowrank
