#include "plan/run.h"

#include <algorithm>

namespace lowrank {
namespace {

void run_zero(Run& run, const Step& s) {
  run.clear(s[PlanRole::zeroed]);
  if (s.parameter >= 0) run.begin_gradient(s);
}
void run_update(Run& run, const Step& s) { run.update(s); }

/// Bytes of a buffer that a call's tokens use.
int64_t live_bytes(const Run& run, int buffer) {
  const Buffer& b = run.plan.buffers[buffer];
  return run.tokens * b.cols * size_of(b.dtype);
}

void run_offload(Run& run, const Step& s) {
  const int x = s[PlanRole::offloaded];
  if (!run.counting) run.stash->put(s.offset, run.at(x), live_bytes(run, x));
}

/// Blocks come back in the order opposite to that in which they went, so the one before is wanted next.
void run_reload(Run& run, const Step& s) {
  if (run.counting) return;
  const int y = s[PlanRole::reloaded];
  const int64_t bytes = live_bytes(run, y);
  run.stash->fetch(run.at(y), s.offset, bytes);
  const auto later = [&](const Step& other) { return other.kind == &kReload && &other > &s; };
  const auto next = std::find_if(run.plan.steps.begin(), run.plan.steps.end(), later);
  if (next != run.plan.steps.end()) run.stash->will_fetch(next->offset, bytes);
}

}  // namespace

const StepKind kZero{"zero", roles<PlanRole>, run_zero};
const StepKind kUpdate{"update", roles<PlanRole>, run_update, true};
const StepKind kOffload{"offload", roles<PlanRole>, run_offload};
const StepKind kReload{"reload", roles<PlanRole>, run_reload};

void Run::execute(const Step& step) {
  Layout layout = step.workspace < 0 ? Layout({}, 0) : Layout(at(step.workspace), plan.buffers[step.workspace].bytes);
  room = &layout;
  step.kind->run(*this, step);
  room = nullptr;
}

Factor Run::weight(int id) const {
  const GraphWeight& of = graph.weights[id];
  const CopyRef& copy = plan.copies[id];
  if (copy.adapter >= 0) {
    const Ptr<float> own = counting ? Ptr<float>(kNowhere) : adapters[copy.adapter]->value(copy.parameter);
    return {of.rows, of.cols, -1, 0, own, of.cols};
  }
  if (of.kind == WeightKind::vector) return {of.rows, of.cols, -1, 0, base_vector(id), of.cols};
  return {of.rows, of.cols, id, 0, {}, of.cols};
}

Ptr<float> Run::weight_gradient(int id) const {
  if (id < 0 || plan.options.mode != Mode::train) return {};
  const CopyRef& copy = plan.copies[id];
  if (copy.adapter < 0) return {};
  return counting ? Ptr<float>(kNowhere) : adapters[copy.adapter]->gradient(copy.parameter);
}

void Run::reduce_into(const AdapterRun& adapter, int parameter, int64_t offset, ReduceTokens kernel) {
  Ptr<float> to = adapter.example_gradient(parameter);
  if (!to) {
    kernel.out = adapter.gradient(parameter) + offset;
    return launch(kernel);
  }
  to = to + offset;
  const Matrix u = kernel.u, x = kernel.x;
  for (size_t s = 0; s + 1 < host_seqlens.size(); ++s, to = to + adapter.example_stride()) {
    const int64_t begin = host_seqlens[s];
    kernel.tokens = host_seqlens[s + 1] - begin;
    if (kernel.tokens == 0) continue;
    kernel.u = u.rows(begin);
    kernel.x = x.rows(begin);
    kernel.out = to;
    launch(kernel);
  }
}

uint64_t Run::dropout_key(int node) const {
  uint64_t key = seed;
  for (const uint64_t part : {step, micro_step, static_cast<uint64_t>(graph.part.first_node + node)})
    key = (key ^ part) * 0x9e3779b97f4a7c15u + (key >> 29);
  return key;
}

void Run::clear(int buffer) {
  const Buffer& b = plan.buffers[buffer];
  const int64_t rows = b.rows == RowKind::fixed ? 1 : tokens;
  launch(Zero{at(buffer), rows * b.cols * size_of(b.dtype)});
}

void Run::add_weight_gradient(const Matrix& dy, int64_t rows, int64_t out, const Matrix& x, int64_t in,
                              Ptr<float> gradient) {
  for (int64_t begin = 0; begin < out; begin += kWeightGradientRows) {
    const int64_t count = std::min(kWeightGradientRows, out - begin);
    launch(ReduceTokens{precision(), rows, dy.columns(begin), count, x, in, 1, gradient + begin * in, in, false});
  }
}

}  // namespace lowrank
