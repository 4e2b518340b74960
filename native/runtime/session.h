// Sessions execute plans over a model. A session owns the memory of its runs on the device; weights and adapters are
// shared.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/adapter.h"
#include "comm/sums.h"
#include "core/boundary.h"
#include "core/context.h"
#include "device/device.h"
#include "device/link.h"
#include "graph/graph.h"
#include "ops/ops.h"
#include "optim/step.h"
#include "plan/plan.h"
#include "runtime/batch.h"
#include "runtime/pipe.h"
#include "runtime/report.h"
#include "runtime/run_memory.h"
#include "weights/model.h"

namespace lowrank {

/// Requested parts of an evaluation's result.
struct Wanted {
  bool log_probs = false;
  bool logits = false;
};

class Session {
 public:
  /// Adapters must be in the memory of the job's device. That device computes, or counts, all calls; later jobs must
  /// use the same kind.
  /// @param weights factor on each adapter's output in their sum; empty means 1 for all, as required in training
  /// @param ranks number of ranks of each adapter in use outside training, 0 for all; empty means all
  Session(Context& context, std::shared_ptr<const Model> model, std::vector<std::shared_ptr<Adapter>> adapters,
          const std::map<std::string, PlanOptions>& plans, std::vector<float> weights = {},
          std::vector<int64_t> ranks = {});

  const Plan& plan(const std::string& name) const;
  const Graph& graph() const { return model_->graph; }
  const std::vector<std::shared_ptr<Adapter>>& adapters() const { return adapters_; }
  /// Memory of the session's device.
  Memory& memory() const { return device_memory_; }
  PlanReport report(const std::string& name) const;
  PlanReport total() const;

  /// One forward and backward pass, whose gradients are added to the adapter's, or applied by the input's update. If
  /// the loss is not finite, nothing is updated. Throws Error("DIVERGED") for a gradient that is not finite, after
  /// updating the parameters whose gradients were complete before, and Error("CONFIG") for an update if gradients are
  /// kept, a missing one if they are not, or one that clips, which needs all gradients.
  /// @param sums of gradients over ranks, for the last micro-batch of a step; null: they are not summed
  LossResult train_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel,
                        Sums* sums = nullptr);
  /// The forward pass of a micro-batch on a rank whose layers are not the last: its `train_step` comes later, and
  /// computes it again unless that is the next call. Throws as train_step.
  void forward_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel);
  /// For ranks that hold a part of the layers; see Pipe::skip.
  void skip_passes(int64_t forwards, int64_t backwards);
  /// First half of a two-pass step: the forward pass, and the log-probability of each labeled position. Values for the
  /// backward pass are kept until the next call. Throws as train_step.
  LossResult score_step(Context& context, const std::string& plan, const TrainInput& input, const CancelFlag& cancel,
                        Sums* sums = nullptr);
  /// Second half: the backward pass, with a weight for each of those positions. Throws Error("CONFIG") unless the first
  /// half was the previous call and the adapter is unchanged since; otherwise as train_step.
  LossResult finish_step(Context& context, const std::vector<float>& weights, const CancelFlag& cancel,
                         Sums* sums = nullptr);
  /// Sums the gradients over ranks, except those that the step's last pass has summed already.
  /// @param link sums them in the device's memory; null: they go through the host
  void sum_gradients(Context& context, const std::string& plan, Sums& sums, Link* link);
  /// Throws Error("CONFIG") if logits are requested that the plan does not hold all at once.
  LossResult evaluate(Context& context, const std::string& plan, const MicroBatch& batch, const CancelFlag& cancel,
                      float temperature = 1, Wanted wanted = {});
  /// Sums of ||output||^2 of the first adapter at each of its terms, over all tokens evaluated so far by plans with
  /// `output_norms`. Throws Error("CONFIG") without such a plan, Error("UNSUPPORTED") for a term without a rank.
  std::vector<double> output_norms() const;
  /// Seconds spent so far by phase and kernel in descending order, as text.
  std::string times_text() const;
  /// Logits of the requested rows: [rows, vocab], valid until the next call. A graph whose operations keep states can
  /// only continue after all cached tokens or after a multiple of each one's `state_block`; throws Error("SHAPE")
  /// elsewhere.
  HostView<const float> forward(Context& context, const std::string& plan, const ForwardInput& input,
                                const CancelFlag& cancel);
  /// The same for several texts, each in a part of the cache of its own: logits [texts that want them, vocab], with the
  /// bits that `forward` gives each text alone with its adapters. Throws Error("UNSUPPORTED") for a graph whose
  /// operations keep other states than keys and values, and for texts with different adapters unless all of these only
  /// add to products; Error("SHAPE") for texts that do not fit.
  HostView<const float> decode(Context& context, const std::string& plan, const std::vector<TextInput>& texts,
                               const CancelFlag& cancel);
  /// Copies the first tokens of one part of the cache to the beginning of another.
  void copy_cache(Context& context, const std::string& plan, int64_t from, int64_t to, int64_t tokens);

 private:
  friend class Executor;
  void check_texts(const Plan& plan, const std::vector<TextInput>& texts) const;
  friend class SessionAdapter;
  std::vector<const AdapterSpec*> specs() const;
  void check_input(const Plan& plan, const TrainInput& input) const;
  size_t first_step(const Plan& plan, const TrainInput& input);
  Ptr<float> example_gradients() const;
  void add_examples(Context& context, const TrainInput& input, Ptr<float> gradients, LossResult& result);
  Ptr<double> moment(size_t term) const;  // for a term of the first adapter

  const int threads_;  // number that the plans have room for
  Memory& device_memory_;
  std::shared_ptr<const Model> model_;
  const StoredWeights stored_;
  std::unique_ptr<PlacedWeights> placed_;
  std::vector<std::shared_ptr<Adapter>> adapters_;
  std::vector<float> adapter_weights_;
  std::vector<int64_t> adapter_ranks_;
  std::map<std::string, Plan> plans_;
  std::optional<RunMemory> memory_;
  std::unique_ptr<Pipe> pipe_;  // null for a whole model
  /// Micro-batch of the last forward_step, whose values are valid while the adapter has the same version.
  struct Forwarded {
    uint64_t step, micro_step, version;
    bool operator==(const Forwarded&) const = default;
  };
  std::optional<Forwarded> forwarded_;
  /// State between the two halves of a step.
  struct Scored {
    std::string plan;
    TrainInput input;
    uint64_t version;  // of the adapter's values
  };
  std::optional<Scored> scored_;
  int64_t kept_after_ = 0;          // tokens after which the last states of operations stand; -1 if a call failed
  mutable std::mutex times_mutex_;  // `times_text` is called from another thread
  std::map<std::pair<Phase, std::string_view>, double> seconds_;
};

}  // namespace lowrank
