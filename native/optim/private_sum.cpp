#include "optim/private_sum.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace lowrank {
namespace {

/// Work of one thread: the ranks of a term, or a stretch of a copied weight.
struct Part {
  const TermFacts* term = nullptr;
  int64_t begin = 0, end = 0;  // without a term, in the span of trained parameters
};

constexpr int64_t kStretch = 1 << 16;  // elements

/// In the order in which norms add up, which must not depend on the number of threads.
std::vector<Part> parts_of(const AdapterSpec& spec) {
  std::vector<Part> parts;
  for (const TermFacts& term : spec.facts) parts.push_back({&term});
  for (const WeightCopy& copy : spec.copies) {
    const ParameterSpec& own = spec.parameters[copy.parameter];
    if (!own.trained) continue;
    const int64_t begin = spec.offsets[copy.parameter], end = begin + own.rows * own.cols;
    for (int64_t at = begin; at < end; at += kStretch) parts.push_back({nullptr, at, std::min(at + kStretch, end)});
  }
  return parts;
}

/// Calls back with runs of a part's coordinates in the span of trained parameters, in a fixed order. A copy is of no
/// rank and has all of them in every round.
void each_run(const AdapterSpec& spec, const Part& part, const TrainedRanks& ranks,
              const std::function<void(int64_t begin, int64_t end)>& run) {
  if (part.term == nullptr) return run(part.begin, part.end);
  const TermFacts& term = *part.term;
  const auto [first, end] = trained_of(ranks, term.rank);
  const ParameterSpec &a = spec.parameters[term.a], &b = spec.parameters[term.b];
  const int64_t at_a = spec.offsets[term.a], at_b = spec.offsets[term.b];
  if (a.trained) run(at_a + first * a.cols, at_a + end * a.cols);
  if (!b.trained) return;
  if (end - first == term.rank) return run(at_b, at_b + b.rows * term.rank);
  for (int64_t row = 0; row < b.rows; ++row) run(at_b + row * term.rank + first, at_b + row * term.rank + end);
}

/// Calls `work` for every part, shared out among the threads.
void each_part(Context& context, const std::vector<Part>& parts,
               const std::function<void(size_t index, const Part& part)>& work) {
  context.pool.for_range(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(static_cast<size_t>(i), parts[i]);
  });
}

/// Adds the contribution that `at` gives for each coordinate, clipped. The sums are made part by part, so that they are
/// the same at any number of threads.
template <class At>
double add(Context& context, Adapter& adapter, const TrainedRanks& ranks, double bound, const At& at) {
  expect_private(adapter);
  if (!(bound > 0)) fail("CONFIG", "the clipping norm is ", bound, "; expected a positive number");
  const AdapterSpec& spec = adapter.spec();
  const std::vector<Part> parts = parts_of(spec);
  std::vector<double> squares(parts.size(), 0.0);
  each_part(context, parts, [&](size_t index, const Part& part) {
    double sum = 0;
    each_run(spec, part, ranks, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += at(i) * at(i);
    });
    squares[index] = sum;
  });
  const double norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
  const double factor = clip_factor(norm, bound);
  if (factor == 0) return norm;
  double* const sum = adapter.private_sum();
  each_part(context, parts, [&](size_t, const Part& part) {
    each_run(spec, part, ranks, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum[i] += factor * at(i);
    });
  });
  return norm;
}

void copy(const Adapter& adapter, Ptr<float> from, Ptr<float> to) {
  adapter.memory().copy(to.as<std::byte>(), from.as<std::byte>(),
                        adapter.spec().trained_elements * static_cast<int64_t>(sizeof(float)));
}

/// Numbers laid out as the trained parameters.
HostView<const float> view(const Adapter& adapter, Ptr<float> at) {
  return {adapter.memory(), at, adapter.spec().trained_elements, "adapter"};
}

ChaCha20::Nonce nonce_of(uint64_t round) {
  ChaCha20::Nonce nonce{'n', 'o', 'i', 's'};
  for (int i = 0; i < 8; ++i) nonce[4 + i] = static_cast<uint8_t>(round >> 8 * i);
  return nonce;
}

}  // namespace

double clip_factor(double norm, double bound) {
  return std::isfinite(norm) ? std::min(1.0, bound / (norm + 1e-6)) : 0.0;
}

void expect_private(const Adapter& adapter) {
  if (adapter.private_sum() == nullptr) fail("CONFIG", "the adapter was not created for private training");
}

void begin_round(Adapter& adapter) {
  expect_private(adapter);
  std::fill_n(adapter.private_sum(), adapter.spec().trained_elements, 0.0);
  if (adapter.spec().privacy != Privacy::clients) return;
  const OptimizerState& state = adapter.state();
  copy(adapter, adapter.span(AdapterArray::value), adapter.kept_values());
  adapter.memory().copy(adapter.kept_state(), state.data(), state.bytes());
}

void begin_client(Adapter& adapter) {
  expect_private(adapter);
  copy(adapter, adapter.kept_values(), adapter.span(AdapterArray::value));
  adapter.zero_gradients();
  adapter.state().clear();
  adapter.values_changed();
}

double add_client(Context& context, Adapter& adapter, const TrainedRanks& ranks, double bound) {
  const HostView<const float> start = view(adapter, adapter.kept_values());
  const HostView<const float> now = view(adapter, adapter.span(AdapterArray::value));
  return add(context, adapter, ranks, bound, [&](int64_t i) { return static_cast<double>(start[i]) - now[i]; });
}

double add_gradient(Context& context, Adapter& adapter, const TrainedRanks& ranks, const float* gradient, double weight,
                    double bound) {
  return add(context, adapter, ranks, bound, [&](int64_t i) { return weight * gradient[i]; });
}

void release(Context& context, Adapter& adapter, const TrainedRanks& ranks, const ReleaseNoise& noise, double cohort) {
  expect_private(adapter);
  if (!(cohort > 0) || !(noise.deviation >= 0))
    fail("CONFIG", "the cohort is ", cohort, " and the noise ", noise.deviation,
         "; expected a positive cohort and non-negative noise");
  const AdapterSpec& spec = adapter.spec();
  if (spec.privacy == Privacy::clients) {
    const OptimizerState& state = adapter.state();
    copy(adapter, adapter.kept_values(), adapter.span(AdapterArray::value));
    adapter.memory().copy(state.data(), adapter.kept_state(), state.bytes());
    adapter.values_changed();
  }
  const double* const sum = adapter.private_sum();
  adapter.zero_gradients();
  const HostView<float> gradient(adapter.memory(), adapter.span(AdapterArray::gradient), spec.trained_elements,
                                 "adapter");
  const ChaCha20 stream(noise.key, nonce_of(noise.round));
  each_part(context, parts_of(spec), [&](size_t, const Part& part) {
    int64_t block = -1;
    std::array<double, 8> deviates{};
    each_run(spec, part, ranks, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (noise.deviation > 0 && i / 8 != block) {
          block = i / 8;
          deviates = normals(stream, static_cast<uint32_t>(block));
        }
        gradient[i] = static_cast<float>((sum[i] + noise.deviation * deviates[i % 8]) / cohort);
      }
    });
  });
}

}  // namespace lowrank
