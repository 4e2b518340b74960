// Causal attention with grouped key-value heads and an optional sliding window, in tiles (FlashAttention-2, Dao 2023,
// arXiv 2307.08691).
#include "core/math.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace attention_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  q = slot::q,
  k = slot::k,
  v = slot::v,
  out = slot::y,
  made_out = slot::x2,  // the same in the backward step
  lse = slot::aux,      // f32 [T, heads], log-sum-exps of scores
  dout = slot::dy,
  dq = slot::dq,
  dk = slot::dk,
  dv = slot::dv,
};

int64_t kv_width(const Node& n) { return int64_t{n.kv_heads} * n.head_dim; }

void shape(const NodeCheck& check) {
  const Node& node = check.node;
  check.expect(node.heads > 0 && node.kv_heads > 0 && node.heads % node.kv_heads == 0,
               "heads must be a multiple of kvHeads");
  const int64_t q = int64_t{node.heads} * node.head_dim, kv = kv_width(node);
  check.expect(check.input(0).cols == q && check.out().cols == q, "q and output must be [T, heads x headDim]");
  check.expect(check.input(1).cols == kv && check.input(2).cols == kv, "k and v must be [T, kvHeads x headDim]");
  check.expect_operands();
  check.expect(node.window == -1 || node.window > 0, "its window must be at least 1");
}

Heads heads_of(const Node& n) { return {n.heads, n.kv_heads, n.head_dim, n.window > 0 ? n.window : 0, n.scale}; }

/// Bytes of the keys, or of the values, of one attention in the cache.
int64_t cache_half(int64_t capacity, int64_t width, DType dtype) {
  return round_up(capacity * width * size_of(dtype), 64);
}

/// q, k, v -> out, lse
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  Matrix k = run.matrix(s[Role::k]), v = run.matrix(s[Role::v]);
  int64_t keys = run.tokens;
  Ptr<int32_t> positions;
  if (const int64_t capacity = run.plan.options.kv_capacity; run.plan.options.mode == Mode::forward) {
    const int64_t width = kv_width(n), half = cache_half(capacity, width, k.dtype);
    const Ptr<std::byte> cache = run.state(s.node);
    const Matrix cached_k = Matrix{cache, k.dtype, width}.rows(run.window.cache);
    const Matrix cached_v = Matrix{cache + half, v.dtype, width}.rows(run.window.cache);
    positions = run.at<int32_t>(run.plan.positions);
    run.launch(
        AppendToCache{run.tokens, run.past, width, positions, k, v, cached_k.rows(run.past), cached_v.rows(run.past)});
    k = cached_k;  // with those of earlier calls
    v = cached_v;
    keys = run.counting ? capacity : run.past + run.tokens;
  }
  run.launch(Attention{run.tokens, keys, heads_of(n), run.host_seqlens, run.matrix(s[Role::q]), k, v,
                       run.matrix(s[Role::out]), s[Role::lse] < 0 ? Ptr<float>() : run.at<float>(s[Role::lse]),
                       positions});
}

/// q, k, v, made_out, lse, dout -> dq, dk, dv
void run_backward(Run& run, const Step& s) {
  run.launch(AttentionBackward{run.tokens, heads_of(run.node(s)), run.host_seqlens, run.matrix(s[Role::q]),
                               run.matrix(s[Role::k]), run.matrix(s[Role::v]), run.matrix(s[Role::made_out]),
                               run.at<float>(s[Role::lse]), run.matrix(s[Role::dout]), run.matrix(s[Role::dq]),
                               run.matrix(s[Role::dk]), run.matrix(s[Role::dv])});
}

constexpr StepKind kForward{"attention", roles<Role>, run_forward, false, RowsOf::text};
constexpr StepKind kBackward{"attention_backward", roles<Role>, run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step[Role::q] = plan.value(node.inputs[0]);
  step[Role::k] = plan.value(node.inputs[1]);
  step[Role::v] = plan.value(node.inputs[2]);
  step[Role::out] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::out]};
  if (plan.training()) {
    int& lse = plan.part(index);
    if (lse < 0)
      lse = plan.add_buffer(node.path + " lse", Category::activations, DType::f32, RowKind::tokens, node.heads);
    step.writes.push_back(step[Role::lse] = lse);
  }
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  Step step = plan.step(kBackward, Phase::backward, index);
  // Runs attention again where it was not kept, which leaves lse as well.
  step[Role::made_out] = plan.materialize(node.out);
  step[Role::q] = plan.materialize(node.inputs[0]);
  step[Role::k] = plan.materialize(node.inputs[1]);
  step[Role::v] = plan.materialize(node.inputs[2]);
  step[Role::lse] = plan.part(index);
  step[Role::dout] = dy;
  step[Role::dq] = plan.make_gradient(node.inputs[0], node.path + " dq");
  step[Role::dk] = plan.make_gradient(node.inputs[1], node.path + " dk");
  step[Role::dv] = plan.make_gradient(node.inputs[2], node.path + " dv");
  step.writes = {step[Role::dq], step[Role::dk], step[Role::dv]};
  plan.push(std::move(step));
}

void copy(Run& run, int node, int64_t from, int64_t to, int64_t tokens) {
  const int64_t width = kv_width(run.graph.nodes[node]), bytes = width * size_of(run.operand());
  const Ptr<std::byte> keys = run.state(node);
  const Ptr<std::byte> values = keys + cache_half(run.plan.options.kv_capacity, width, run.operand());
  for (const Ptr<std::byte>& half : {keys, values})
    run.device->memory().copy(half + to * bytes, half + from * bytes, tokens * bytes);
}

/// Keys, then values.
int64_t state_bytes(const Graph&, const Node& node, const PlanOptions& options) {
  return 2 * cache_half(options.kv_capacity, kv_width(node), operand_of(options.precision));
}

}  // namespace attention_op

/// Causal attention within sequences; with a window, a token attends to at most that many keys, including its own.
LOWRANK_NODE(attention, inputs(q, k, v), integer(heads), integer(kvHeads), integer(headDim), number(scale),
             optional(integer(window)));
const OpRules attention{.quadratic = true,
                        .shape = attention_op::shape,
                        .forward = attention_op::forward,
                        .backward = attention_op::backward,
                        .state_bytes = attention_op::state_bytes,
                        .copy = attention_op::copy};

}  // namespace lowrank
