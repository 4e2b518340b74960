#include "adapters/kronecker_term.h"

#include <cmath>

#include "backends/cpu/table.h"
#include "check.h"
#include "core/error.h"
#include "host.h"
#include "values.h"

using namespace lowrank;
using test::check_gradients;
using test::fill_all;
using test::gradient_of;
using test::value_of;

namespace {

/// C [3, 2] of rank 4, D [5, 7] of rank 2: a linear of [15, 14].
AdapterSpec both() {
  AdapterSpec spec;
  spec.trainable = true;
  spec.parameters = {{"c", 3, 4, true}, {"c2", 4, 2, true}, {"d", 5, 2, true}, {"d2", 2, 7, true}};
  spec.terms = {{"kronecker", "linear", {{"c", 0}, {"c2", 1}, {"d", 2}, {"d2", 3}}, {{"scale", 0.5}}}};
  return spec;
}

}  // namespace

TEST("rows for merging are those of the Kronecker product of the two sides") {
  HostAdapter adapter(both());
  fill_all(adapter);
  const auto rows = KroneckerTerm(adapter.spec(), 0, {-1, 15, 14}).delta_rows(adapter, 2, 0);
  const auto side = [&](int first, int second, int64_t rank, int64_t cols, int64_t row, int64_t col) {
    double sum = 0;
    for (int64_t i = 0; i < rank; ++i)
      sum += double{adapter.data(first)[row * rank + i]} * adapter.data(second)[i * cols + col];
    return sum;
  };
  for (int64_t o = 0; o < 15; ++o) {
    std::vector<float> row(14, 1.0f);
    rows->add(o, {}, row);
    for (int64_t i = 0; i < 14; ++i)
      CHECK(std::fabs(row[i] - (1 + 2 * 0.5 * side(0, 1, 4, 2, o / 5, i / 7) * side(2, 3, 2, 7, o % 5, i % 7))) < 1e-5);
  }
}

TEST("the gradient at a C that is a product spreads over its two factors as finite differences say") {
  HostAdapter adapter(both());
  fill_all(adapter);
  std::vector<float> g(6), c(6);
  fill_normal(g.data(), 6, 1, 3, "g");
  Pool pool(1);
  cpu::reference({pool, nullptr},
                 SpreadKroneckerC{3, 4, 2, value_of(adapter, 0), value_of(adapter, 1), cpu::address_of(g.data()),
                                  gradient_of(adapter, 0), gradient_of(adapter, 1)});
  check_gradients(adapter, {0, 1}, 1e-5, [&] {
    cpu::reference({pool, nullptr},
                   KroneckerC{3, 4, 2, value_of(adapter, 0), value_of(adapter, 1), cpu::address_of(c.data())});
    double sum = 0;
    for (int i = 0; i < 6; ++i) sum += double{g[i]} * c[i];
    return sum;
  });
}

TEST("sides whose factors do not fit are refused by name") {
  AdapterSpec spec = both();
  spec.parameters[3].rows = 3;
  CHECK_THROWS(HostAdapter(spec), "D is a product of [5, 2] and [3, 7]");
  spec = both();
  spec.terms[0].parameters.erase("d");
  CHECK_THROWS(HostAdapter(spec), "adapter at linear: kronecker needs d");
  spec = both();
  spec.terms[0].numbers["moduleDropout"] = 1;
  CHECK_THROWS(HostAdapter(spec), "dropout of its change is 1");
}
