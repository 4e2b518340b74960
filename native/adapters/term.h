// A term: one way in which an adapter modifies a linear layer, with all its math in its own files. Terms launch a
// device's kernels without knowing the backend; strategies (lib/strategies) describe them as data.
//
// A term contributes segments, not tensors, so that base and adapters remain one product, as do all readers of a value
// in the backward pass.
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

/// Site of a term: a linear layer [out, in], or an embedding table treated as one.
struct Site {
  int node = -1;
  int64_t out = 0, in = 0;
};

/// Buffers of the forward step of a linear layer, or of an embedding.
enum class ProductRole : uint8_t {
  x = slot::x,          // [T, in], or the ids of an embedding
  y = slot::y,          // [T, out]
  unscaled = slot::x2,  // y before an adapter's magnitude scales its rows
  hidden = slot::aux,   // operands that terms make of x, for the backward pass
  tail = slot::tail,    // room for these behind x
  residual = slot::residual,
};

/// A linear layer's product under construction: a sum over segments, to which terms add their own.
struct Product {
  const Step& step;
  Site site;
  std::vector<Segment> segments;  // [0] is the base, until a term replaces it or transforms its input
  Output to;
  const RowScale* scale = nullptr;  // scales the rows of the whole, if an adapter has a magnitude
  Matrix dropped = {};              // x after a term's dropout, if any
  int64_t hidden = 0;               // columns of x's tail that operands of terms take
  Ptr<float> sum = {};              // sum of fp32 parts from terms, [tokens, out]; becomes the product's residual

  /// Allocates the sum, if no term has.
  void start_sum(Run& run);
  /// Adds a product to the sum.
  void add_to_sum(Run& run, const Segment& segment);
};

/// The same for the input gradient: part of one sum over all readers of the input.
struct InputGradient {
  Site site;
  const GradientTerm& term;
  std::vector<Segment> segments;     // [0] is the base, until a term replaces it
  std::vector<Segment> masked = {};  // kept out of the sum by a mask
};

/// Rows of a term's weight update.
class DeltaRows {
 public:
  virtual ~DeltaRows() = default;
  /// sum += row `row`; callable from any thread. @param base the corresponding row of the weight
  virtual void add(int64_t row, std::span<const float> base, std::span<float> sum) const = 0;
  /// True if it is added before the other terms; the order affects the bits of merged files.
  virtual bool comes_first() const { return false; }
};

/// Reads the roles and numbers of a term, and rejects any that its implementation did not read.
class TermReader {
 public:
  explicit TermReader(const TermSpec& spec) : spec_(spec) {}
  /// The parameter for a role.
  int role(const char* name);
  /// The same for an optional role; -1 if absent.
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
  /// @param index of the term in the description, which must outlive it
  /// @param site where it acts; has no node while the term is only being described
  Term(const AdapterSpec& spec, int index, const Site& site) : spec_(spec), index_(index), site_(site) {}
  virtual ~Term() = default;
  int index() const { return index_; }

  /// Checks that its factors fit each other and its numbers are valid. Throws Error("SHAPE").
  virtual void check() const = 0;
  /// Throws Error("SHAPE") for factors that do not fit the site. @param what describes the site in the message
  virtual void check_site(const std::string& what) const = 0;
  virtual TermFacts facts() const = 0;
  /// Its trained parameters.
  virtual std::vector<int> trained() const = 0;
  /// Width of the operand that it makes of x, and that its backward pass needs; 0 for none.
  virtual int64_t hidden_cols(const PlanOptions& options) const = 0;
  /// True if that operand is all that it adds to the product.
  virtual bool joins(const PlanOptions& options) const { return hidden_cols(options) > 0; }

  /// True if it adds the same to a product whatever other adapters the session has.
  virtual bool adds_alone() const { return false; }

  /// Its ranks where rows of one product may each have terms of their own; 0 where they may not.
  virtual int64_t ranks_by_row() const { return 0; }
  /// Its part of a product of such rows; the caller sets the rows.
  virtual LowRankPart part(const AdapterRun&) const { return {}; }

  virtual void forward(Run& run, AdapterRun& adapter, Product& product) const = 0;
  /// Emits the steps that add to its gradients; `share` is its contribution to the input gradient.
  /// @param dy the gradient at the layer's output before row scaling
  virtual void backward(Planner& plan, int dy, GradientTerm& share) const = 0;
  virtual void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const = 0;
  /// Adds the parts it kept out of the sum, once the sum is in dx.
  virtual void finish_input_gradient(Run&, AdapterRun&, InputGradient&, const Matrix& /*dx*/) const {}

  /// Its last factor with everything folded in, [out, rank] of `facts().rank`, on the host.
  virtual std::vector<float> folded(const Adapter&) const { return {}; }
  /// The rows of its update, for merging and exporting.
  /// @param counts factor on the update @param rank number of ranks in use, 0 for all
  virtual std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const = 0;

 protected:
  const TermSpec& described() const { return spec_.terms[index_]; }
  const std::string& target() const { return described().target; }
  const ParameterSpec& parameter(int index) const { return spec_.parameters[index]; }
  /// Throws Error("SHAPE") unless the parameter, if present, is [rows, cols]; -1 matches any size.
  void expect(int parameter, const char* factor, int64_t rows, int64_t cols) const;
  /// Throws Error("SHAPE") unless 0 <= p < 1.
  void check_dropout(float p) const;
  std::vector<int> trained_of(std::initializer_list<int> parameters) const;
  /// Rows of a change of the weight whose gradient is formed at a time: bounds the workspace.
  static constexpr int64_t kChangeRows = 256;
  /// Throws Error("SHAPE") for an A and a B that do not fit the site.
  [[noreturn]] void refuse_site(int a, int b, const std::string& what) const;
  /// x with a dropout of probability p, in `out`.
  Matrix drop(Run& run, const Matrix& x, float p, const Matrix& out) const;
  /// Adds to the gradients of b and a those from rows `begin` on of the gradient at their product b a, g [rows, in].
  void add_product_gradient(Run& run, const AdapterRun& adapter, int b, int a, int64_t begin, int64_t rows,
                            Ptr<float> g) const;
  /// dx += the masked parts, through the mask of a dropout of x.
  void add_masked(Run& run, const InputGradient& gradient, float dropout, const Matrix& dx) const;

  const AdapterSpec& spec_;
  const int index_;
  const Site site_;
};

/// The ranks of a term and their scale.
struct Ranks {
  int64_t all = 0;
  float scale = 1;  // with all ranks in use
  float power = 0;  // with `active` leading ranks: scale * (all / active)^power

  static Ranks read(TermReader& read);
  void check(const std::string& target) const;
  /// Number of ranks in use for `wanted`, where 0 means all.
  int64_t of(int64_t wanted) const { return wanted <= 0 || wanted >= all ? all : wanted; }
  float scale_at(int64_t active) const;
};

/// Dropout of a term's weight update, drawn anew for each micro-step.
struct DeltaDropout {
  float rows = 0;        // probability of zeroing an output row of the update
  float all = 0;         // probability of zeroing the whole update
  bool rescale = false;  // rescales the remaining rows to compensate

  static DeltaDropout read(TermReader& read);
  void check(const std::string& target) const;
  bool any() const { return rows > 0 || all > 0; }
  /// The row gains in a step, or null if nothing is dropped. Allocates workspace.
  Ptr<float> draw(Run& run, int node, int64_t count) const;
};

/// Rows of b [rows, rank] times a [rank, cols] with row stride `ld`.
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

/// Places the operand that a term makes of x: in the tail of x behind those that are there, else in the buffer of the
/// backward pass, else in workspace.
/// @param width in the plan @param used the columns that it has in this step
Matrix place_hidden(Run& run, Product& product, int64_t width, int64_t used);
/// Copies that operand from the tail of x to the buffer of the backward pass, if there are both.
void keep_hidden(Run& run, const Product& product, const Matrix& h, int64_t width);
/// Buffers of the backward steps of a term that makes an operand h = x A^T.
enum class HiddenRole : uint8_t {
  x = slot::x,
  h = slot::aux,
  dy = slot::dy,
  dh = slot::y,  // the gradient at h
};

/// Makes the operand that a term needs for its backward pass available without recomputing the layer's output, by a
/// step of `kind` (x -> h) if it was not kept; returns its buffer.
int materialize_hidden(Planner& plan, const Term& term, const StepKind& kind, int node, int64_t width);

}  // namespace lowrank
