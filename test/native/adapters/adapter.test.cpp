#include "adapters/adapter.h"

#include <cmath>

#include "backends/cpu/table.h"
#include "check.h"
#include "core/error.h"
#include "core/factors.h"
#include "host.h"
#include "values.h"

using namespace lowrank;
using test::check_gradients;
using test::gradient_of;
using test::value_of;

namespace {

/// A term with every factor, some of them trained.
AdapterSpec full(bool train_b = true, bool train_d = true, bool train_gain = true) {
  AdapterSpec spec;
  spec.trainable = true;
  spec.parameters = {
      {"A", 3, 5, true}, {"B", 4, 3, train_b}, {"d", 1, 3, train_d}, {"mask", 1, 3, false}, {"gain", 1, 4, train_gain}};
  spec.terms = {
      {"low_rank", "linear", {{"a", 0}, {"b", 1}, {"d", 2}, {"mask", 3}, {"bGain", 4}}, {{"rank", 3}, {"scale", 0.5}}}};
  return spec;
}

/// With a mask of ones and a zero.
void fill_all(HostAdapter& adapter) {
  test::fill_all(adapter);
  adapter.data(3)[0] = 1;
  adapter.data(3)[1] = 0;
  adapter.data(3)[2] = 1;
}

}  // namespace

TEST("trained parameters come first in the span, frozen ones have no gradient") {
  const HostAdapter adapter(full(false));
  CHECK_EQ(adapter.spec().trained_elements, 15 + 3 + 4);
  CHECK_EQ(adapter.spec().elements, 15 + 12 + 3 + 3 + 4);
  CHECK(adapter.data(1, AdapterArray::gradient) == nullptr);
  CHECK(adapter.data(0, AdapterArray::gradient) != nullptr);
  CHECK_LE(adapter.spec().offsets[0], adapter.spec().trained_elements);
  CHECK(adapter.spec().offsets[1] >= adapter.spec().trained_elements);
}

TEST("bytes of an adapter are accounted by category and go back when it dies") {
  const int64_t adapters = allocated_bytes(Category::adapters), gradients = allocated_bytes(Category::gradients),
                optimizer = allocated_bytes(Category::optimizer);
  {
    HostAdapter adapter(full());
    CHECK_EQ(allocated_bytes(Category::adapters) - adapters, 37 * 4);
    CHECK_EQ(allocated_bytes(Category::gradients) - gradients, 34 * 4);
    CHECK_EQ(allocated_bytes(Category::optimizer), optimizer);
    adapter.restart();
    CHECK_EQ(allocated_bytes(Category::optimizer) - optimizer, 2 * 34 * 4);
  }
  CHECK_EQ(allocated_bytes(Category::adapters), adapters);
  CHECK_EQ(allocated_bytes(Category::optimizer), optimizer);
}

namespace {

void fold(const HostAdapter& adapter, int64_t active, float* out) {
  fold_rows({3, active, 0.5f, 1, adapter.data(1), adapter.data(2), adapter.data(3), adapter.data(4), nullptr}, 0, 4,
            out);
}

void fold_gradient(HostAdapter& adapter, int64_t active, const float* g) {
  Pool pool(1);
  cpu::reference({pool, nullptr},
                 FoldGradient{4, 3, active, 0.5f, value_of(adapter, 1), value_of(adapter, 2), value_of(adapter, 3),
                              value_of(adapter, 4), cpu::address_of(g), gradient_of(adapter, 1),
                              gradient_of(adapter, 2), gradient_of(adapter, 4)});
}

}  // namespace

TEST("the gradient of the folded matrix spreads over B, d and the row gains as finite differences say") {
  HostAdapter adapter(full());
  fill_all(adapter);
  std::vector<float> g(12);
  fill_normal(g.data(), 12, 1, 3, "g");
  fold_gradient(adapter, 3, g.data());
  // loss = <g, folded>; it is linear in each factor, so central differences are exact up to rounding.
  check_gradients(adapter, {1, 2, 4}, 1e-5, [&] {
    std::vector<float> folded(12);
    fold(adapter, 3, folded.data());
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += static_cast<double>(g[i]) * folded[i];
    return sum;
  });
}

TEST("a lower active rank folds the first columns only and leaves the gradients of the rest alone") {
  HostAdapter adapter(full());
  fill_all(adapter);
  std::vector<float> all(12), part(4);
  fold(adapter, 3, all.data());
  fold(adapter, 1, part.data());
  for (int i = 0; i < 4; ++i) CHECK_EQ(part[i], all[i * 3]);
  const std::vector<float> ones(4, 1.0f);
  fold_gradient(adapter, 1, ones.data());
  for (int i = 0; i < 4; ++i) {
    CHECK_EQ(adapter.data(1, AdapterArray::gradient)[i * 3 + 1], 0.0f);
    CHECK_EQ(adapter.data(1, AdapterArray::gradient)[i * 3 + 2], 0.0f);
  }
  CHECK_EQ(adapter.data(2, AdapterArray::gradient)[2], 0.0f);
}

TEST("random fills depend on seed and name, not on the order of calls") {
  std::vector<float> a(1000), b(1000), c(1000);
  fill_uniform(a.data(), 1000, 0.25f, 1, "x");
  fill_uniform(c.data(), 1000, 0.25f, 1, "y");
  fill_uniform(b.data(), 1000, 0.25f, 1, "x");
  CHECK(a == b);
  CHECK(a != c);
  double sum = 0, squares = 0;
  for (const float v : a) {
    CHECK(std::fabs(v) < 0.25f);
    sum += v;
    squares += v * v;
  }
  CHECK(std::fabs(sum / 1000) < 0.02);
  CHECK(std::fabs(std::sqrt(squares / 1000) - 0.25 / std::sqrt(3.0)) < 0.01);
}

TEST("an adapter with wrong shapes is refused by name") {
  AdapterSpec spec = full();
  spec.parameters[2].cols = 2;
  CHECK_THROWS(HostAdapter(spec), "d (d) is [1, 2]; expected [1, 3]");
  spec.terms = {{"hadamard", "linear", {{"a", 0}, {"b", 4}}, {}}};
  CHECK_THROWS(HostAdapter(spec), "B (gain) is [1, 4]; expected [any, 3]");
  spec = full();
  spec.parameters[1].name = spec.parameters[0].name;
  CHECK_THROWS(HostAdapter(spec), "A is declared twice");
  spec = full();
  spec.terms[0].numbers["dropout"] = 1;
  CHECK_THROWS(HostAdapter(spec), "dropout is 1");
  spec = full();
  CHECK_THROWS(HostAdapter(spec).parameter("C"), "no parameter 'C'");
  spec.terms[0].parameters.erase("b");
  CHECK_THROWS(HostAdapter(spec), "adapter at linear: low_rank needs b");
}

TEST("a kind, a role and a number that there is not are refused by name, with those that there are") {
  AdapterSpec spec = full();
  spec.terms[0].kind = "high_rank";
  CHECK_THROWS(HostAdapter(spec),
               "adapter at linear: unknown kind of term 'high_rank'; expected one of embedding, hadamard, kronecker,");
  spec = full();
  spec.terms[0].parameters["c2"] = 0;
  CHECK_THROWS(HostAdapter(spec), "adapter at linear: low_rank has no parameter 'c2'; it has a, b, d,");
  spec = full();
  spec.terms[0].numbers["rowDropout"] = 0.5;
  CHECK_THROWS(HostAdapter(spec), "low_rank has no number 'rowDropout'; it has rank, scale,");
  spec = full();
  spec.terms[0].parameters["a"] = 5;
  CHECK_THROWS(HostAdapter(spec), "adapter at linear: a names no parameter");
}
