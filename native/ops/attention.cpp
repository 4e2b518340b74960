#include "ops/attention.h"

#include "core/math.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace {

Heads heads_of(const Node& n) { return {n.heads, n.kv_heads, n.head_dim, n.window > 0 ? n.window : 0, n.scale}; }

/// Appends fresh keys or values to their part of the cache, where attention then finds those of earlier calls too.
void append(Run& run, Matrix& fresh, Ptr<std::byte> cache) {
  const int64_t row = fresh.ld * size_of(fresh.dtype);
  run.device->memory().copy(cache + run.past * row, fresh.data, run.tokens * row);
  fresh.data = cache;
}

/// q, k, v -> y, aux = lse
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  Matrix k = run.matrix(s.k), v = run.matrix(s.v);
  int64_t keys = run.tokens;
  if (const int64_t capacity = run.plan.options.kv_capacity; run.plan.options.mode == Mode::forward) {
    const int64_t half = round_up(capacity * k.ld * size_of(k.dtype), 64);
    const Ptr<std::byte> layer = run.kv_cache + 2 * half * n.layer;
    append(run, k, layer);
    append(run, v, layer + half);
    keys = run.counting ? capacity : run.past + run.tokens;
  }
  run.launch(Attention{run.tokens, keys, heads_of(n), run.host_seqlens, run.matrix(s.q), k, v, run.matrix(s.y),
                       s.aux < 0 ? Ptr<float>() : run.at<float>(s.aux)});
}

/// q, k, v, x2 = out, aux = lse, dy -> dq, dk, dv
void run_backward(Run& run, const Step& s) {
  run.launch(AttentionBackward{run.tokens, heads_of(run.node(s)), run.host_seqlens, run.matrix(s.q), run.matrix(s.k),
                               run.matrix(s.v), run.matrix(s.x2), run.at<float>(s.aux), run.matrix(s.dy),
                               run.matrix(s.dq), run.matrix(s.dk), run.matrix(s.dv)});
}

constexpr StepKind kForward{"attention", run_forward};
constexpr StepKind kBackward{"attention_backward", run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step.q = plan.value(node.inputs[0]);
  step.k = plan.value(node.inputs[1]);
  step.v = plan.value(node.inputs[2]);
  step.y = plan.make_value(node.out, node.path);
  step.writes = {step.y};
  if (plan.training()) {
    int& lse = plan.part(index);
    if (lse < 0)
      lse = plan.add_buffer(node.path + " lse", Category::activations, DType::f32, RowKind::tokens, node.heads);
    step.writes.push_back(step.aux = lse);
  }
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  Step step = plan.step(kBackward, Phase::backward, index);
  step.x2 = plan.materialize(node.out);  // runs attention again where it was not kept, which leaves lse as well
  step.q = plan.materialize(node.inputs[0]);
  step.k = plan.materialize(node.inputs[1]);
  step.v = plan.materialize(node.inputs[2]);
  step.aux = plan.part(index);
  step.dy = dy;
  step.dq = plan.make_gradient(node.inputs[0], node.path + " dq");
  step.dk = plan.make_gradient(node.inputs[1], node.path + " dk");
  step.dv = plan.make_gradient(node.inputs[2], node.path + " dv");
  step.writes = {step.dq, step.dk, step.dv};
  plan.push(std::move(step));
}

}  // namespace

const OpRules attention{.quadratic = true, .forward = forward, .backward = backward};

}  // namespace lowrank
