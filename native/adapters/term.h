// A term of a linear: one kind of maths by which an adapter changes it. Its room is all that knows that maths. Terms
// launch a device's kernels and know no backend; strategies (lib/strategies) describe them as data and know no term.
//
// A term gives segments, not tensors, so that base and adapters stay one product, and all readers of a value one
// product in the backward pass.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "adapters/adapter.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {

class RowScale;

/// Where a term acts: a linear of [out, in], or the table of an embedding seen as one.
struct Site {
  int node = -1;
  int64_t out = 0, in = 0;
};

/// A linear's product in the making: one sum over segments, to which terms add their own.
struct Product {
  const Step& step;
  Site site;
  std::vector<Segment> segments;  // [0] is the base, until a term takes its place
  Output to;
  const RowScale* scale = nullptr;  // what scales the rows of the whole, where an adapter has a magnitude
  Matrix dropped = {};              // x as a term dropped it, where one does
  Ptr<float> sum = {};              // of fp32 parts that terms made, [tokens, out]; then the residual of the product
};

/// The same of the gradient of the input.
struct InputGradient {
  const Step& step;
  Site site;
  const GradientTerm& term;
  std::vector<Segment>& segments;
  size_t base;                       // place of the base's segment
  float dropout = 0;                 // where a mask keeps a part out of the common sum:
  std::vector<Segment> masked = {};  // that part
};

/// Rows of a term's change of the weight.
class DeltaRows {
 public:
  virtual ~DeltaRows() = default;
  /// sum += row `row`; any thread.
  virtual void add(int64_t row, std::span<float> sum) const = 0;
  /// Whether it joins the sum before those that do not; the order is in the bits of merged files.
  virtual bool comes_first() const { return false; }
};

class Term {
 public:
  virtual ~Term() = default;
  /// Of its parameters those that train.
  virtual std::vector<int> trained() const = 0;
  /// Columns of the operand that its backward pass needs beside x, 0 for none. Of a training plan.
  virtual int64_t hidden_cols(const PlanOptions& options) const = 0;

  virtual void forward(Run& run, AdapterRun& adapter, Product& product) const = 0;
  /// Emits the steps that add to its gradients; `share` is what it puts into the input gradient.
  /// @param dy the gradient behind the gains of the rows, where there are any; the same as share.dy
  virtual void backward(Planner& plan, int dy, GradientTerm& share) const = 0;
  virtual void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const = 0;

  /// The rows of its change, for merging and exporting.
  /// @param counts a factor of the change, @param rank how many of its ranks are in use, 0 being all
  virtual std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const = 0;
};

/// Rows of b [rows, rank] times a [rank, cols], which has `ld` elements from row to row.
class ProductRows final : public DeltaRows {
 public:
  ProductRows(std::vector<float> b, std::vector<float> a, int64_t rank, int64_t ld)
      : b_(std::move(b)), own_(std::move(a)), a_(own_.data()), rank_(rank), ld_(ld) {}
  /// @param a stays where it is for as long as this lives
  ProductRows(std::vector<float> b, const float* a, int64_t rank, int64_t ld)
      : b_(std::move(b)), a_(a), rank_(rank), ld_(ld) {}
  void add(int64_t row, std::span<float> sum) const override;

 private:
  std::vector<float> b_, own_;
  const float* a_;
  int64_t rank_, ld_;
};

/// Makes the operand that a term keeps for its backward pass available without the linear's output, by a step of `kind`
/// (x -> aux) where it was not kept; returns its buffer.
int materialize_hidden(Planner& plan, const Term& term, const StepKind& kind, int node, int64_t width);

/// The room of rows of a change that training drops, or null where it drops none.
Ptr<float> draw_row_gains(Run& run, const DeltaDropout& dropout, int node, int64_t rows);

}  // namespace lowrank
