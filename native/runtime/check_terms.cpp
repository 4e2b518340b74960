// LOWRANK_CHECK=terms: the outputs of linears and embeddings with adapters, held to the weights that merging would
// write.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapters/term.h"
#include "core/error.h"
#include "runtime/execute.h"
#include "weights/read_weight.h"

namespace lowrank {
namespace {

/// Rows of a linear's weight, evenly spread, or tokens of an embedding.
constexpr int64_t kCompared = 8;

/// True if training drops a part of the term's input or change, which merging does not.
bool drops(const TermSpec& term) {
  return std::any_of(term.numbers.begin(), term.numbers.end(), [](const auto& number) {
    return number.second > 0 && (number.first == "dropout" || number.first.ends_with("Dropout"));
  });
}

}  // namespace

/// The rows of a buffer that the call's tokens have, in fp32.
std::vector<float> Executor::numbers(int buffer) const {
  const Buffer& b = plan.buffers[buffer];
  const int64_t ld = matrix(buffer).ld, count = tokens == 0 ? 0 : (tokens - 1) * ld + b.cols;
  std::vector<float> numbers;
  const auto take = [&](const auto& all, const auto& to_f32) {
    for (int64_t row = 0; row < tokens; ++row)
      std::transform(all.begin() + row * ld, all.begin() + row * ld + b.cols, std::back_inserter(numbers), to_f32);
  };
  if (b.dtype == DType::f32)
    take(view<float>(buffer, count, "checked numbers"), [](float value) { return value; });
  else
    take(view<uint16_t>(buffer, count, "checked numbers"), f32_from_bf16);
  return numbers;
}

bool Executor::compares_terms(const Step& step) const {
  return step.has<ProductRole>() && step[ProductRole::y] >= 0 && !plan.sites[step.node].empty();
}

void Executor::check_terms(const Step& step) {
  // A residual may lie where the output will.
  const bool adds = compares_terms(step) && step[ProductRole::residual] >= 0;
  const std::vector<float> residual = adds ? numbers(step[ProductRole::residual]) : std::vector<float>();
  run_step(step, context_.device);
  compare_terms(step, residual);
  for (const Step& each : step.group) compare_terms(each, {});
}

void Executor::compare_terms(const Step& step, const std::vector<float>& residual) {
  if (!compares_terms(step)) return;
  const Node& n = node(step);
  if (n.op == Op::embedding && noise > 0) return;
  if (!session_.model_->weights[n.weight]) return;  // counted, not computed
  std::vector<WeightedAdapter> merged;
  for (size_t i = 0; i < plan.sites[step.node].size(); ++i) {
    const AdapterSite& site = plan.sites[step.node][i];
    merged.push_back({session_.adapters_[i].get(), adapters[i]->weight, adapters[i]->rank});
    for (const Term* term : site.terms)
      if (training() && drops(site.spec->terms[term->index()])) return;
  }
  const auto row_of = [&](int weight, const std::string& target, int64_t row) {
    const ReadOptions options{.begin = row, .count = 1, .target = target};
    const std::vector<uint8_t> bytes = read_weight(context_.pool, session_.model_->weights[weight],
                                                   graph.weights[weight].name, merged, options, cancel_);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  };
  const std::vector<float> y = numbers(step[ProductRole::y]);
  const int64_t width = cols(n.out);
  double difference = 0, norm = 0;
  const auto compare = [&](int64_t at, double expected) {
    const double found = residual.empty() ? y[at] : double{y[at]} - residual[at];
    difference += (found - expected) * (found - expected);
    norm += expected * expected;
  };
  if (n.op == Op::linear) {
    const std::vector<float> x = numbers(step[ProductRole::x]),
                             bias = n.bias < 0 ? std::vector<float>() : row_of(n.bias, "", 0);
    for (int64_t i = 0; i < kCompared; ++i) {
      const int64_t out = i * width / kCompared;
      const std::vector<float> row = row_of(n.weight, n.path, out);
      for (int64_t t = 0; t < tokens; ++t) {
        double sum = bias.empty() ? 0 : bias[out];
        for (size_t c = 0; c < row.size(); ++c) sum += double{x[t * row.size() + c]} * row[c];
        compare(t * width + out, sum);
      }
    }
  } else {
    const HostView<const int32_t> ids = view<int32_t>(step[ProductRole::x], tokens, "checked numbers");
    for (int64_t t = 0; t < std::min(kCompared, tokens); ++t) {
      const std::vector<float> row = row_of(n.weight, n.path, ids[t]);
      for (int64_t c = 0; c < width; ++c) compare(t * width + c, row[c]);
    }
  }
  const double relative = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  if (!(relative <= (precision() == Precision::bf16 ? 2e-2 : 1e-4)))
    fail("INTERNAL", "LOWRANK_CHECK: ", name_of(step.phase), ' ', step.kind->name, " at ", n.path,
         ": relative difference ", relative, " from the product with the merged weight");
}

}  // namespace lowrank
