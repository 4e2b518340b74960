#include "adapters/term.h"

#include <algorithm>

#include "core/error.h"
#include "core/math.h"

namespace lowrank {
namespace {

constexpr int64_t kMostRank = int64_t{1} << 24;

template <class Entries>
void expect_known(const TermSpec& spec, const Entries& given, const std::vector<std::string>& read, const char* what) {
  for (const auto& [name, value] : given) {
    if (std::find(read.begin(), read.end(), name) != read.end()) continue;
    std::string known;
    for (const std::string& each : read) known += (known.empty() ? "" : ", ") + each;
    fail("CONFIG", "adapter at ", spec.target, ": ", spec.kind, " has no ", what, " '", name, "'; it has ", known);
  }
}

}  // namespace

int TermReader::role_if(const char* name) {
  roles_.emplace_back(name);
  const auto found = spec_.parameters.find(name);
  return found == spec_.parameters.end() ? ParameterIndex() : found->second;
}

int TermReader::role(const char* name) {
  const int parameter = role_if(name);
  if (parameter < 0) fail("SHAPE", "adapter at ", spec_.target, ": ", spec_.kind, " needs ", name);
  return parameter;
}

float TermReader::number(const char* name, float fallback) {
  numbers_.emplace_back(name);
  const auto found = spec_.numbers.find(name);
  return found == spec_.numbers.end() ? fallback : static_cast<float>(found->second);
}

float TermReader::number(const char* name) {
  if (spec_.numbers.count(name) == 0)
    fail("SHAPE", "adapter at ", spec_.target, ": ", spec_.kind, " needs the number ", name);
  return number(name, 0);
}

void TermReader::done() const {
  expect_known(spec_, spec_.parameters, roles_, "parameter");
  expect_known(spec_, spec_.numbers, numbers_, "number");
}

void Term::expect(int index, const char* factor, int64_t rows, int64_t cols) const {
  if (index < 0) return;
  const ParameterSpec& p = parameter(index);
  if ((rows < 0 || p.rows == rows) && (cols < 0 || p.cols == cols)) return;
  const auto shown = [](int64_t count) { return count < 0 ? std::string("any") : std::to_string(count); };
  fail("SHAPE", "adapter at ", target(), ": ", factor, " (", p.name, ") is [", p.rows, ", ", p.cols, "]; expected [",
       shown(rows), ", ", shown(cols), "]");
}

void Term::check_dropout(float p) const {
  if (!(p >= 0 && p < 1)) fail("SHAPE", "adapter at ", target(), ": dropout is ", p, "; expected 0 <= p < 1");
}

void Term::refuse_site(int a, int b, const std::string& what) const {
  const ParameterSpec &of_a = parameter(a), &of_b = parameter(b);
  fail("SHAPE", "adapter at ", target(), ": A is [", of_a.rows, ", ", of_a.cols, "] and B [", of_b.rows, ", ",
       of_b.cols, "] but ", what, " is [", site_.out, ", ", site_.in, "]");
}

Matrix Term::drop(Run& run, const Matrix& x, float p, const Matrix& out) const {
  run.launch(Dropout{run.tokens, site_.in, x, p, run.dropout_key(site_.node), out});
  return out;
}

std::vector<int> Term::trained_of(std::initializer_list<int> parameters) const {
  std::vector<int> found;
  for (const int index : parameters)
    if (spec_.trains(index)) found.push_back(index);
  return found;
}

void Term::add_product_gradient(Run& run, const AdapterRun& adapter, int b, int a, int64_t begin, int64_t rows,
                                Ptr<float> g) const {
  const int64_t rank = parameter(a).rows;
  const Matrix at = f32_matrix(g, site_.in);
  if (spec_.trains(a)) {
    const Matrix of_b = f32_matrix(adapter.value(b) + begin * rank, rank);
    run.launch(ReduceTokens{Precision::f32, rows, of_b, rank, at, site_.in, 1, adapter.gradient(a), site_.in, false});
  }
  if (!spec_.trains(b)) return;
  const Ptr<float> db = adapter.gradient(b) + begin * rank;
  const Segment segment{at, {rank, site_.in, -1, 0, adapter.value(a), site_.in}};
  run.launch(GemmNt{Precision::f32, rows, rank, {&segment, 1}, {f32_matrix(db, rank), {}, db, rank}});
}

void Term::add_masked(Run& run, const InputGradient& gradient, float dropout, const Matrix& dx) const {
  if (gradient.masked.empty()) return;
  const Matrix part = run.take_operand(site_.in);
  run.launch(GemmNn{run.precision(), run.tokens, site_.in, gradient.masked, {part}});
  run.launch(DropoutBackward{run.tokens, site_.in, part, dropout, run.dropout_key(site_.node), dx});
}

void Product::start_sum(Run& run) {
  if (!sum) sum = run.room->take<float>(run.plan.options.tokens * site.out);
}

void Product::add_to_sum(Run& run, const Segment& segment) {
  Output to_sum = to;
  to_sum.y = f32_matrix(sum, site.out);
  to_sum.bias = {};
  run.launch(GemmNt{run.precision(), run.tokens, site.out, {&segment, 1}, to_sum});
  to.residual = sum;
  to.residual_ld = site.out;
}

Ranks Ranks::read(TermReader& read) {
  return {static_cast<int64_t>(read.number("rank")), read.number("scale"), read.number("rankPower", 0)};
}

void Ranks::check(const std::string& target) const {
  if (all <= 0 || all > kMostRank)
    fail("SHAPE", "adapter at ", target, ": rank is ", all, "; expected 1 to ", kMostRank);
}

float Ranks::scale_at(int64_t active) const {
  if (active == all || power == 0) return scale;
  return static_cast<float>(scale * math::pow(static_cast<double>(all) / static_cast<double>(active), power));
}

DeltaDropout DeltaDropout::read(TermReader& read) {
  return {read.number("rowDropout", 0), read.number("moduleDropout", 0), read.number("rowDropoutScale", 0) != 0};
}

void DeltaDropout::check(const std::string& target) const {
  for (const float p : {rows, all})
    if (!(p >= 0 && p < 1))
      fail("SHAPE", "adapter at ", target, ": dropout of its change is ", p, "; expected 0 <= p < 1");
}

Ptr<float> DeltaDropout::draw(Run& run, int node, int64_t count) const {
  if (!run.training() || !any()) return {};
  const Ptr<float> gains = run.room->take<float>(count);
  run.launch(DrawRows{count, rows, all, rescale, run.dropout_key(node), gains});
  return gains;
}

Matrix place_hidden(Run& run, Product& product, int64_t width, int64_t used) {
  const int kept = product.step[ProductRole::hidden], tail = product.step[ProductRole::tail];
  if (tail < 0) return kept >= 0 ? run.matrix(kept) : run.take_operand(width);
  const Matrix hidden = run.matrix(tail).columns(product.hidden);
  product.hidden += used;
  return hidden;
}

void keep_hidden(Run& run, const Product& product, const Matrix& h, int64_t width) {
  const int kept = product.step[ProductRole::hidden], tail = product.step[ProductRole::tail];
  if (tail >= 0 && kept >= 0) run.launch(GatherRows{run.tokens, width, h, {}, run.matrix(kept)});
}

int materialize_hidden(Planner& plan, const Term& term, const StepKind& kind, int node, int64_t width) {
  if (plan.part(node) >= 0) return plan.part(node);
  Step step = plan.step(kind, Phase::recompute, node);
  step.term = &term;
  step[HiddenRole::x] = plan.materialize(plan.node(node).inputs[0]);
  const int made = step[HiddenRole::h] = plan.hidden(node, width);
  step.writes = step.by_rank = {made};
  plan.touch(step, node);
  plan.push(std::move(step));
  return made;
}

void ProductRows::add(int64_t row, std::span<const float>, std::span<float> sum) const {
  for (int64_t j = 0; j < rank_; ++j) {
    const float factor = b_[row * rank_ + j];
    const float* a = a_ + j * ld_;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * a[i];
  }
}

}  // namespace lowrank
