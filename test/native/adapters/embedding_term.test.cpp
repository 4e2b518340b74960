#include <cmath>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/check.h"
#include "backends/cpu/table.h"
#include "check.h"
#include "core/error.h"

using namespace lowrank;

namespace {

constexpr int64_t kVocab = 7, kDim = 5, kRank = 3;

AdapterSpec spec_of_embedding() {
  AdapterSpec spec;
  spec.trainable = true;
  spec.parameters = {{"A", kRank, kVocab, true}, {"B", kDim, kRank, true}};
  spec.terms = {{"embedding", "embedding", {{"a", 0}, {"b", 1}}, {{"rank", kRank}, {"scale", 0.5}}}};
  return spec;
}

}  // namespace

TEST("the way back from looked-up columns is the transpose of looking them up, at any number of threads") {
  const std::vector<int32_t> ids{3, 0, 3, 6, 3};
  const int64_t tokens = static_cast<int64_t>(ids.size());
  std::vector<float> a(kRank * kVocab), dh(tokens * kRank), first(a.size());
  for (size_t i = 0; i < a.size(); ++i) a[i] = std::sin(1.0f + static_cast<float>(i));
  for (size_t i = 0; i < dh.size(); ++i) dh[i] = std::cos(2.0f + static_cast<float>(i));
  for (const int threads : {1, 3}) {
    Pool pool(threads);
    std::vector<float> h(tokens * kRank), da(a.size(), 0.0f);
    cpu::reference({pool, nullptr}, GatherColumns{tokens, cpu::address_of(ids.data()), kRank, kVocab,
                                                  cpu::address_of(a.data()), cpu::address_of(h.data())});
    CHECK_EQ(h[2 * kRank + 1], a[kVocab + 3]);
    cpu::reference({pool, nullptr}, ScatterColumns{tokens, cpu::address_of(ids.data()), 0, kRank, kVocab,
                                                   cpu::address_of(dh.data()), cpu::address_of(da.data())});
    double there = 0, back = 0;
    for (size_t i = 0; i < h.size(); ++i) there += double{h[i]} * dh[i];
    for (size_t i = 0; i < da.size(); ++i) back += double{a[i]} * da[i];
    CHECK(std::fabs(there - back) < 1e-6);
    CHECK_EQ(da[1], 0.0f);  // a token that does not occur
    if (threads == 1)
      first = da;
    else
      CHECK(first == da);
  }
}

TEST("ranks before the first that trains get no gradient") {
  Pool pool(1);
  const std::vector<int32_t> ids{2, 5};
  const std::vector<float> dh(ids.size() * kRank, 1.0f);
  std::vector<float> da(kRank * kVocab, 0.0f);
  cpu::reference({pool, nullptr}, ScatterColumns{2, cpu::address_of(ids.data()), 2, kRank, kVocab,
                                                 cpu::address_of(dh.data()), cpu::address_of(da.data())});
  for (int64_t i = 0; i < 2 * kVocab; ++i) CHECK_EQ(da[i], 0.0f);
  CHECK_EQ(da[2 * kVocab + 5], 1.0f);
}

TEST("an embedding takes A and B alone, and blends the examples of a micro-batch") {
  const auto refused = [](const char* part, auto&& change) {
    AdapterSpec spec = spec_of_embedding();
    change(spec);
    CHECK_THROWS(check_adapter(spec), part);
  };
  refused("embedding has no number 'dropout'", [](AdapterSpec& spec) { spec.terms[0].numbers["dropout"] = 0.1; });
  refused("embedding has no parameter 'd'", [](AdapterSpec& spec) {
    spec.parameters.push_back({"d", 1, kRank, true});
    spec.terms[0].parameters["d"] = 2;
  });
  AdapterSpec spec = spec_of_embedding();
  check_adapter(spec);
  CHECK(spec.blends_examples());
  spec.terms[0].kind = "low_rank";
  check_adapter(spec);
  CHECK(!spec.blends_examples());
}
