// A term of a linear: one kind of maths by which an adapter changes it. Its room is all that knows that maths. Terms
// launch a device's kernels and know no backend; strategies (lib/strategies) describe them as data and know no term.
//
// A term gives segments, not tensors, so that base and adapters stay one product, and all readers of a value one
// product in the backward pass.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "adapters/adapter.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {

class RowScale;

/// Site of a term: a linear of [out, in], or the table of an embedding seen as one.
struct Site {
  int node = -1;
  int64_t out = 0, in = 0;
};

/// A linear's product in the making: one sum over segments, to which terms add their own.
struct Product {
  const Step& step;
  Site site;
  std::vector<Segment> segments;  // [0] is the base, until a term takes its place or turns its input
  Output to;
  const RowScale* scale = nullptr;  // what scales the rows of the whole, where an adapter has a magnitude
  Matrix dropped = {};              // x as a term dropped it, where one does
  Ptr<float> sum = {};              // of fp32 parts that terms made, [tokens, out]; then the residual of the product
};

/// The same of the gradient of the input: a part of one sum over all readers of it.
struct InputGradient {
  const Step& step;
  Site site;
  const GradientTerm& term;
  std::vector<Segment> segments;     // [0] is the base, until a term takes its place
  std::vector<Segment> masked = {};  // what a mask keeps out of the sum
};

/// Rows of a term's change of the weight.
class DeltaRows {
 public:
  virtual ~DeltaRows() = default;
  /// sum += row `row`; any thread. @param base the row of the weight that is changed
  virtual void add(int64_t row, std::span<const float> base, std::span<float> sum) const = 0;
  /// True if it joins the sum before the other terms; the order affects the bits of merged files.
  virtual bool comes_first() const { return false; }
};

/// Reads the roles and numbers of a term, and refuses those that its room did not ask for.
class TermReader {
 public:
  explicit TermReader(const TermSpec& spec) : spec_(spec) {}
  /// The parameter in a role.
  int role(const char* name);
  /// The same of a role that may be empty: -1.
  int role_if(const char* name);
  float number(const char* name);
  float number(const char* name, float fallback);
  /// Throws Error("CONFIG") for a role or number that was not read.
  void done() const;

 private:
  const TermSpec& spec_;
  std::vector<std::string> roles_, numbers_;
};

class Term {
 public:
  /// @param index of the term in the description, which lives longer
  /// @param site where it acts; without a node while it is only described
  Term(const AdapterSpec& spec, int index, const Site& site) : spec_(spec), index_(index), site_(site) {}
  virtual ~Term() = default;
  int index() const { return index_; }

  /// Throws Error("SHAPE"): its factors fit each other, and its numbers are what they may be.
  virtual void check() const = 0;
  /// Throws Error("SHAPE") for factors that do not fit the site. @param what is there, for the message
  virtual void check_site(const std::string& what) const = 0;
  virtual TermFacts facts() const = 0;
  /// Its trained parameters.
  virtual std::vector<int> trained() const = 0;
  /// Columns of the operand that its backward pass needs beside x, 0 for none. Of a training plan.
  virtual int64_t hidden_cols(const PlanOptions& options) const = 0;

  virtual void forward(Run& run, AdapterRun& adapter, Product& product) const = 0;
  /// Emits the steps that add to its gradients; `share` is what it puts into the input gradient.
  /// @param dy the gradient behind the gains of the rows, where there are any; the same as share.dy
  virtual void backward(Planner& plan, int dy, GradientTerm& share) const = 0;
  virtual void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const = 0;
  /// Adds what it kept out of the sum, once that is in dx.
  virtual void finish_input_gradient(Run&, AdapterRun&, InputGradient&, const Matrix& /*dx*/) const {}

  /// Its last factor with all that it is multiplied by, [out, rank] of `facts().rank`, on the host.
  virtual std::vector<float> folded(const Adapter&) const { return {}; }
  /// The rows of its change, for merging and exporting.
  /// @param counts a factor of the change, @param rank how many of its ranks are in use, 0 being all
  virtual std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const = 0;

 protected:
  const TermSpec& described() const { return spec_.terms[index_]; }
  const std::string& target() const { return described().target; }
  const ParameterSpec& parameter(int index) const { return spec_.parameters[index]; }
  /// Throws Error("SHAPE") unless a parameter, if there is one, is [rows, cols]; -1 is any.
  void expect(int parameter, const char* factor, int64_t rows, int64_t cols) const;
  std::vector<int> trained_of(std::initializer_list<int> parameters) const;

  const AdapterSpec& spec_;
  const int index_;
  const Site site_;
};

/// The ranks of a term, and what they count for.
struct Ranks {
  int64_t all = 0;
  float scale = 1;  // with all of them in use
  float power = 0;  // with the first `active`: scale * (all / active)^power

  static Ranks read(TermReader& read);
  void check(const std::string& target) const;
  /// Number of ranks in use for `wanted`; 0 means all.
  int64_t of(int64_t wanted) const { return wanted <= 0 || wanted >= all ? all : wanted; }
  float scale_at(int64_t active) const;
};

/// Dropout of a term's change of the weight, drawn anew for each micro-step.
struct DeltaDropout {
  float rows = 0;        // probability that an output row of the change is zero
  float all = 0;         // that the whole change is
  bool rescale = false;  // divides the rows that stay by their share

  static DeltaDropout read(TermReader& read);
  void check(const std::string& target) const;
  bool any() const { return rows > 0 || all > 0; }
  /// The gains of the rows in a step, or null where nothing is dropped. Takes room.
  Ptr<float> draw(Run& run, int node, int64_t count) const;
};

/// Rows of b [rows, rank] times a [rank, cols], which has `ld` elements from row to row.
class ProductRows final : public DeltaRows {
 public:
  ProductRows(std::vector<float> b, std::vector<float> a, int64_t rank, int64_t ld)
      : b_(std::move(b)), own_(std::move(a)), a_(own_.data()), rank_(rank), ld_(ld) {}
  ProductRows(std::vector<float> b, HostView<const float> a, int64_t rank, int64_t ld)
      : b_(std::move(b)), view_(std::move(a)), a_(view_.data()), rank_(rank), ld_(ld) {}
  void add(int64_t row, std::span<const float> base, std::span<float> sum) const override;

 private:
  std::vector<float> b_, own_;
  HostView<const float> view_;
  const float* a_;
  int64_t rank_, ld_;
};

/// Makes the operand that a term keeps for its backward pass available without the linear's output, by a step of `kind`
/// (x -> aux) where it was not kept; returns its buffer.
int materialize_hidden(Planner& plan, const Term& term, const StepKind& kind, int node, int64_t width);

}  // namespace lowrank
