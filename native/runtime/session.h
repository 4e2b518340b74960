// Models, and sessions that execute plans over them. A session owns the memory of its runs on the device; weights and
// adapters are shared.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/adapter.h"
#include "core/context.h"
#include "device/device.h"
#include "graph/graph.h"
#include "ops/ops.h"
#include "optim/step.h"
#include "plan/plan.h"
#include "runtime/batch.h"
#include "runtime/pager.h"
#include "runtime/run_memory.h"
#include "runtime/weights.h"

namespace lowrank {

struct Model {
  Graph graph;
  std::vector<Weight> weights;  // parallel to graph.weights; empty until loaded
  std::vector<Claim> mapped;    // of weights that lie in a file
  std::unique_ptr<Pager> pager;  // where only a part of them is in memory at a time
  /// Files that weights stay in, by path; only jobs look here, and those follow one another.
  std::map<std::string, std::shared_ptr<const os::MappedFile>> files;

  explicit Model(Graph described);
  std::vector<std::string> missing() const;
  /// Throws Error("CONFIG") while weights are missing.
  void expect_loaded() const;
  /// Throws Error("FILE_FORMAT") when a file that weights stay in was cut short or could not be read: what was computed
  /// from it does not count.
  void expect_whole() const;
  /// Rows of a weight, in memory for as long as this lives. All of one that is not a table, and as much of a table as the
  /// budget has room for.
  Held hold(int weight, int64_t begin, int64_t end) const;
  Held hold(int weight) const { return hold(weight, 0, graph.weights[weight].rows); }
};

/// A model's weights as a device finds them, paged or not.
class StoredWeights final : public WeightStore {
 public:
  explicit StoredWeights(const Model& model) : model_(model) {}
  void expect_loaded() const override { model_.expect_loaded(); }
  WeightView view(int weight) const override { return model_.weights[weight].view(); }
  int64_t rows_at_once(int, int64_t rows) const override { return model_.pager ? kTableRows : rows; }
  std::unique_ptr<Hold> hold(const WeightRows& rows) const override;
  /// As many as take a quarter of the pager's budget.
  int64_t gathered_at_once(int weight) const override;
  std::unique_ptr<Hold> gather(int weight, std::span<const int32_t> rows) const override;

 private:
  int64_t gathered_bytes(int weight) const;  // of a row, with the pages that it lies in
  const Model& model_;
};

struct PlanRow {
  Category category;
  int64_t bytes;
};

/// A step of a plan: what it is, what is live meanwhile, and what it multiplies.
struct PlanMoment {
  Phase phase;
  const char* kind;           // name
  std::string node;           // path
  int64_t live_bytes;         // of the arena
  double multiply_adds;       // see Step
};

struct PlanReport {
  int64_t peak_bytes = 0;
  std::vector<PlanRow> rows;
  int64_t arena_bytes = 0;
  std::string peak_at;
  std::vector<PlanMoment> timeline;  // of the plan with the largest arena
  int64_t trainable_parameters = 0;
  int64_t total_parameters = 0;
  int64_t paged_read_bytes = 0;  // of a paged base: read from the disk by a call of the plan with the largest arena
  int64_t offloaded_bytes = 0;   // of activations: each training call writes and reads them
  int64_t paged_state_bytes = 0;  // of paged optimizer state: what lies in files; each update reads and writes it
};

/// A base that is paged, before there is a file: how it is cut, and its budget.
struct Paging {
  PageSpans spans;
  int64_t budget;
};

/// What a session over these plans would hold, from shapes and storage formats alone; equal to what it allocates.
PlanReport report_plans(const Graph& graph, const std::vector<StorageFormat>& formats,
                        const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                        const Paging* paging = nullptr);

/// The same of a loaded model.
PlanReport report_plans(const Model& model, const std::vector<const AdapterSpec*>& adapters,
                        const std::map<std::string, Plan>& plans);

struct TrainInput {
  MicroBatch batch;
  float loss_scale = 1;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t micro_step = 0;
  int64_t active_rank = 0;  // ranks in use, from the first; 0: all
  bool last_rank_only = false;  // of those, only the last gets gradients
  double clipping_norm = 0;  // of the gradient of each example, where the adapter is trained privately by example
  std::optional<OptimizerStep> update;  // made in the backward pass, where the adapter's state is for that
};

struct LossResult {
  double loss_sum = 0;
  int64_t count = 0;
  std::vector<double> norms;  // of each example's gradient before clipping, where examples are clipped
  std::optional<double> grad_norm;  // of the whole gradient, where the adapter was updated by it
};

struct Sampling {
  float temperature = 0;
  int64_t top_k = 0;   // 0: all
  float top_p = 1;
  uint64_t seed = 0;
  uint64_t position = 0;
};

struct ForwardInput {
  std::vector<int32_t> tokens;
  int64_t past = 0;
  std::vector<int32_t> rows;
};

class Session {
 public:
  /// Adapters have to lie in the memory of the job's device. That computes, or counts, all calls, and those of later jobs
  /// are of its kind.
  /// @param weights what each adapter's output counts for where outputs add up; empty is 1 for all, as training needs
  /// @param ranks how many ranks of each adapter are in use outside training, 0 being all; empty is all
  Session(Context& context, std::shared_ptr<const Model> model, std::vector<std::shared_ptr<Adapter>> adapters,
          const std::map<std::string, PlanOptions>& plans, std::vector<float> weights = {},
          std::vector<int64_t> ranks = {});

  const Plan& plan(const std::string& name) const;
  const Graph& graph() const { return model_->graph; }
  const std::vector<std::shared_ptr<Adapter>>& adapters() const { return adapters_; }
  PlanReport report(const std::string& name) const;
  PlanReport total() const;

  /// One forward and backward pass, whose gradients add to the adapter's, or are used up by the update of the input. With
  /// a loss that is not finite nothing is updated. Throws Error("DIVERGED") for a gradient that is not, with parameters
  /// updated whose gradients were whole before it, and Error("CONFIG") for an update where gradients are kept, none where
  /// they are not, or one that clips, which needs them all.
  LossResult train_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel);
  LossResult evaluate(Context& context, const std::string& plan, const MicroBatch& batch, const CancelFlag& cancel);
  /// Sums of ||output||^2 of the first adapter at each of its terms, over all tokens of the evaluations so far by plans
  /// with `output_norms`. Throws Error("CONFIG") without such a plan, Error("UNSUPPORTED") for a term that has no rank.
  std::vector<double> output_norms() const;
  /// Seconds spent so far by phase and kernel, most first, as text.
  std::string times_text() const;
  /// Logits of the asked-for rows: [rows, vocab], to be read before the next call.
  HostView<const float> forward(Context& context, const std::string& plan, const ForwardInput& input, const CancelFlag& cancel);

 private:
  friend class Executor;
  friend class SessionAdapter;
  std::vector<const AdapterSpec*> specs() const;
  Ptr<float> example_gradients() const;
  void add_examples(Context& context, const TrainInput& input, Ptr<float> gradients, LossResult& result);
  Ptr<double> moment(size_t term) const;  // of a term of the first adapter

  const int threads_;  // that the plans have room for
  Memory& device_memory_;
  std::shared_ptr<const Model> model_;
  const StoredWeights stored_;
  std::unique_ptr<PlacedWeights> placed_;
  std::vector<std::shared_ptr<Adapter>> adapters_;
  std::vector<float> adapter_weights_;
  std::vector<int64_t> adapter_ranks_;
  std::map<std::string, Plan> plans_;
  std::optional<RunMemory> memory_;
  mutable std::mutex times_mutex_;  // `times_text` is asked for by another thread
  std::map<std::pair<Phase, std::string_view>, double> seconds_;
};

/// Fills an adapter's parameter with the values of a base weight, decoded to fp32. Throws Error("CONFIG") for an unknown
/// or unloaded weight, Error("SHAPE") when the two differ in shape.
void copy_weight_into(Context& context, const Model& model, const std::string& weight, Adapter& adapter, int parameter);

/// Fills a magnitude with the norms of the rows that it stands for, W_i + delta_i with the other values as they are, so
/// that the adapted linear gives what it would give without a magnitude. Throws as copy_weight_into.
void fill_row_norms(Context& context, const Model& model, Adapter& adapter, int parameter);

/// Draws a token from logits [vocab]: greedy at temperature 0, else softmax over the top_k and top_p best. Deterministic
/// in (seed, position).
int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling);

}  // namespace lowrank
