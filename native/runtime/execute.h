// Executes a plan's steps in order: keeps the weights of each step in memory, launches it on the job's device, and
// performs the steps implemented by the session.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/buckets.h"
#include "plan/run.h"
#include "runtime/session.h"

namespace lowrank {

class Executor;

/// An adapter of the session during a run.
class SessionAdapter final : public AdapterRun {
 public:
  SessionAdapter(Executor& run, size_t index) : run_(run), index_(index) {}
  Ptr<float> value(int parameter) const override;
  Ptr<float> gradient(int parameter) const override;
  float host_value(int parameter) const override;
  Ptr<float> example_gradient(int parameter) const override;
  int64_t example_stride() const override;
  Norms norms(int term, bool base_replaced) const override;
  void norms_made(int term, bool base_replaced) override;
  Ptr<double> moment(int term) const override;

 private:
  Adapter& adapter() const;
  Executor& run_;
  size_t index_;
};

class Executor final : public Run {
 public:
  /// @param train null outside of training @param sums of gradients over ranks, for the last micro-batch of a step
  Executor(Session& session, Context& context, const Plan& plan, const CancelFlag& cancel,
           const TrainInput* train = nullptr, Sums* sums = nullptr);
  ~Executor() override;

  void run() { run(0, plan.steps.size()); }
  /// Runs a plan on the tokens of several texts. @param texts must outlive the run
  void run(const std::vector<TextInput>& texts);
  /// A part of the plan's steps.
  void run(size_t from, size_t to);
  /// Sum of the losses; not a number if only that of another rank is not finite, so that nothing was updated.
  double loss() const;
  /// Norm of all gradients applied so far; summed in parameter order, as in an update after the backward pass.
  double grad_norm() const;

  /// True for a rank without a micro-batch: it makes the updates of the other ranks, and computes nothing else.
  bool updates_only() const { return updates() && sums_ != nullptr && train_->tokens.empty(); }

  void begin_gradient(const Step& step) override;
  void update(const Step& step) override;
  void cross(Crossing crossing, int buffer) override;

 protected:
  Ptr<float> base_vector(int id) const override;

 private:
  friend class SessionAdapter;
  void run_steps(std::span<const Step> steps);
  void run_each(std::span<const Step> steps, const std::string& check);
  void run_step(const Step& step, Device& on);
  void sum_complete(const Step& step);
  bool has_finite_losses();
  void run_checked(const Step& step);
  void check_operands(const Step& step);
  void check_terms(const Step& step);
  bool compares_terms(const Step& step) const;
  void compare_terms(const Step& step, const std::vector<float>& residual);
  std::vector<float> numbers(int buffer) const;
  HostView<float> gradients_written() const;
  int64_t written_columns(const Step& step, int buffer) const;

  void run_rows(const Step& step);

  bool updates() const { return train_ != nullptr && train_->update; }
  Adapter& trained() const { return *session_.adapters_[0]; }
  void expect_update(std::vector<Step>::const_iterator from);

  Session& session_;
  Context& context_;
  const CancelFlag& cancel_;
  const TrainInput* const train_;
  Sums* const sums_;  // null: gradients are not summed over ranks, as before the last micro-batch of a step
  const std::vector<TextInput>* texts_ = nullptr;  // null: the call is of one text, or of whole sequences
  std::unique_ptr<Device> reference_, operand_check_;
  std::vector<SessionAdapter> own_;
  std::vector<AdapterRun*> runs_;
  std::vector<GradientBucket> buckets_;  // that are still to be summed over ranks, in reverse; empty: none
  bool diverged_ = false;                // a loss of this rank or of another is not finite
  std::vector<double> squares_;          // sums over the gradients of updated parameters
};

}  // namespace lowrank
