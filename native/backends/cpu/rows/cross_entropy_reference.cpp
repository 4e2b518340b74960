#include <algorithm>

#include "backends/cpu/reference.h"
#include "core/math.h"

namespace lowrank::cpu {

void reference(const Cpu& cpu, const CrossEntropy& k) {
  const int64_t vocab = k.vocab;
  float* const lse = host(k.lse);
  for_rows(cpu, k.rows, vocab, [&](int64_t row) {
    float* const z = row_as<float>(k.logits, row);
    if (k.inverse_temperature != 1)
      for (int64_t v = 0; v < vocab; ++v) z[v] *= k.inverse_temperature;
    const int32_t label = host(k.labels)[row];
    const bool counted = label >= 0 && label < vocab;
    double top = z[0];
    for (int64_t v = 1; v < vocab; ++v) top = std::max(top, double{z[v]});
    double sum = 0, mean = 0;
    for (int64_t v = 0; v < vocab; ++v) {
      sum += math::exp(z[v] - top);
      mean += z[v] / static_cast<double>(vocab);
    }
    const double share = k.smoothing, each = share / static_cast<double>(vocab);
    if (k.lse_known) {
      top = lse[row];
      sum = 1;
    } else {
      const double aim = counted ? (1 - share) * z[label] + share * mean : 0;
      host(k.loss)[row] = counted ? static_cast<float>(top + math::log(sum) - aim) : 0.0f;
      if (lse != nullptr) lse[row] = static_cast<float>(top + math::log(sum));
    }
    if (!k.grad.data) return;
    std::byte* const out = host(k.grad.rows(row).data);
    const float weight = k.weights ? host(k.weights)[row] : k.weight;
    for (int64_t v = 0; v < vocab; ++v) {  // ascending, so a bf16 row may overwrite the front of its own logits
      const double p = math::exp(z[v] - top) / sum - (v == label ? 1 - share : 0.0) - each;
      store_element(out, k.grad.dtype, v, counted ? static_cast<float>(p * weight) : 0.0f);
    }
  });
}

void reference(const Cpu& cpu, const LabelHits& k) {
  for_rows(cpu, k.rows, k.vocab, [&](int64_t row) {
    const float* const z = row_as<float>(k.logits, row);
    const int32_t label = host(k.labels)[row];
    const bool counted = label >= 0 && label < k.vocab;
    // Without branches, so that the loops become vectors. A logit that is not a number is never below.
    int32_t beaten = counted ? 0 : 1;
    for (int64_t v = 0; counted && v < label; ++v) beaten |= static_cast<int32_t>(!(z[v] < z[label]));
    for (int64_t v = label + 1; counted && v < k.vocab; ++v) beaten |= static_cast<int32_t>(!(z[v] <= z[label]));
    host(k.hits)[row] = beaten == 0 ? 1.0f : 0.0f;
  });
}

}  // namespace lowrank::cpu
