// Sessions, which execute plans over a model. A session owns the memory of its runs on the device; weights and
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
#include "runtime/report.h"
#include "runtime/run_memory.h"
#include "weights/model.h"

namespace lowrank {

struct TrainInput {
  MicroBatch batch;
  float loss_scale = 1;
  float temperature = 1;  // divides the logits
  float label_smoothing = 0;  // share of each label that goes to the whole vocabulary
  float embedding_noise = 0;  // alpha of NEFTune, or 0
  std::vector<float> weights;  // of each labeled position, in place of loss_scale, where the plan has row weights
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
  std::vector<float> log_probs;  // of each labeled position in order, where they are asked for
  std::vector<float> logits;     // of each labeled position, [rows, labels], where they are asked for
};

/// Parts of an evaluation's result that are asked for.
struct Wanted {
  bool log_probs = false;
  bool logits = false;
};

struct ForwardInput {
  std::vector<int32_t> tokens;
  int64_t past = 0;
  std::vector<int32_t> rows;
  int64_t reach = 0;  // tokens that the text in the cache may come to have; 0: those of this call and before
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
  /// Memory of the device that it runs on.
  Memory& memory() const { return device_memory_; }
  PlanReport report(const std::string& name) const;
  PlanReport total() const;

  /// One forward and backward pass, whose gradients add to the adapter's, or are used up by the update of the input. With
  /// a loss that is not finite nothing is updated. Throws Error("DIVERGED") for a gradient that is not, with parameters
  /// updated whose gradients were whole before it, and Error("CONFIG") for an update where gradients are kept, none where
  /// they are not, or one that clips, which needs them all.
  LossResult train_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel);
  /// The first half of a step by a plan of two passes: the forward pass, and the log-probability of each labeled position.
  /// The values for the backward pass stay until the next call. Throws as train_step.
  LossResult score_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel);
  /// The second half: the backward pass, with a weight for each of those positions. Throws Error("CONFIG") without a first
  /// half right before it, or where the adapter has changed since; and as train_step.
  LossResult finish_step(Context& context, const std::vector<float>& weights, const CancelFlag& cancel);
  /// Throws Error("CONFIG") where logits are wanted that the plan does not hold all at a time.
  LossResult evaluate(Context& context, const std::string& plan, const MicroBatch& batch, const CancelFlag& cancel,
                      float temperature = 1, Wanted wanted = {});
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
  void check_input(const Plan& plan, const TrainInput& input) const;
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
  /// A step between its two halves.
  struct Scored {
    std::string plan;
    TrainInput input;
    uint64_t version;  // of the adapter's values
  };
  std::optional<Scored> scored_;
  mutable std::mutex times_mutex_;  // `times_text` is asked for by another thread
  std::map<std::pair<Phase, std::string_view>, double> seconds_;
};

}  // namespace lowrank
