#include "runtime/batch.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "core/error.h"

namespace lowrank {

void check_tokens(const Run& run, const std::vector<int32_t>& tokens) {
  if (tokens.empty() || static_cast<int64_t>(tokens.size()) > run.plan.options.tokens)
    fail("SHAPE", "the batch has ", tokens.size(), " tokens; this plan takes 1 to ", run.plan.options.tokens);
  for (const int32_t id : tokens)
    if (id < 0 || id >= run.graph.vocab_size)
      fail("DATA", "token id ", id, " is outside the model's vocabulary of ", run.graph.vocab_size);
}

void place_positions(Run& run, const std::vector<int32_t>& cu_seqlens, const std::vector<int64_t>& past,
                     const std::vector<int64_t>& reach) {
  std::vector<int32_t> positions(static_cast<size_t>(cu_seqlens.back()));
  const auto each_sequence = [&](const auto& visit) {
    for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s)
      visit(std::span(positions.data() + cu_seqlens[s], positions.data() + cu_seqlens[s + 1]),
            past.empty() ? 0 : past[s], reach.empty() ? 0 : reach[s]);
  };
  each_sequence([](std::span<int32_t> sequence, int64_t before, int64_t) {
    std::iota(sequence.begin(), sequence.end(), static_cast<int32_t>(before));
  });
  run.upload(run.plan.positions, positions);
  if (run.plan.rope_rows == run.plan.positions) return;
  each_sequence([&](std::span<int32_t> sequence, int64_t before, int64_t most) {
    if (std::max(before + static_cast<int64_t>(sequence.size()), most) <= run.graph.long_above()) return;
    for (int32_t& row : sequence) row += static_cast<int32_t>(run.positions);
  });
  run.upload(run.plan.rope_rows, positions);
}

void place_batch(Run& run, const MicroBatch& batch) {
  const Plan& plan = run.plan;
  check_tokens(run, batch.tokens);
  const auto& cu = batch.cu_seqlens;
  const int32_t count = static_cast<int32_t>(batch.tokens.size());
  if (cu.size() < 2 || static_cast<int64_t>(cu.size()) - 1 > plan.options.sequences || cu.front() != 0 ||
      cu.back() != count || !std::is_sorted(cu.begin(), cu.end()))
    fail("SHAPE", "cuSeqlens must increase from 0 to the number of tokens, ", count, ", over 1 to ",
         plan.options.sequences, " sequences");
  if (batch.labels.size() != batch.tokens.size())
    fail("SHAPE", "labels has ", batch.labels.size(), " entries for ", count, " tokens");
  std::vector<int32_t> rows, labels;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t label = batch.labels[i];
    if (label == -100) continue;
    if (label < 0 || label >= run.graph.labels)
      fail("DATA", "label ", label, " is not among the ", run.graph.labels, " that the model's head tells apart");
    if (static_cast<int64_t>(rows.size()) == plan.options.head_rows)
      fail("SHAPE", "the batch has more labeled positions than the ", plan.options.head_rows,
           " that this plan supports");
    rows.push_back(i);
    labels.push_back(label);
  }
  run.upload(plan.tokens, batch.tokens);
  place_positions(run, cu);
  run.upload(plan.head_index, rows);
  run.upload(plan.head_labels, labels);
  run.tokens = count;
  run.head_rows = static_cast<int64_t>(rows.size());
  run.host_seqlens = batch.cu_seqlens;
}

void place_weights(Run& run, const std::vector<float>& weights) {
  const Plan& plan = run.plan;
  if (plan.head_weights < 0) {
    if (!weights.empty()) fail("CONFIG", "this plan takes no weights of positions");
    return;
  }
  if (static_cast<int64_t>(weights.size()) != run.head_rows)
    fail("SHAPE", "there are ", weights.size(), " weights for ", run.head_rows, " labeled positions");
  run.device->memory().upload(run.at(plan.head_weights), weights.data(),
                              static_cast<int64_t>(weights.size() * sizeof(float)));
}

std::vector<float> log_probs(const Run& run) {
  const HostView<const float> losses = run.view<float>(run.plan.head_losses, run.head_rows, "losses");
  std::vector<float> found(losses.begin(), losses.end());
  for (float& value : found) value = -value;
  return found;
}

double loss_sum(const Run& run) {
  if (!run.graph.has_head()) return 0;
  const HostView<const float> losses = run.view<float>(run.plan.head_losses, run.head_rows, "losses");
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

std::optional<int64_t> hits(const Run& run) {
  if (run.plan.head_hits < 0 || !run.graph.has_head()) return {};
  const HostView<const float> found = run.view<float>(run.plan.head_hits, run.head_rows, "hits");
  return std::count(found.begin(), found.end(), 1.0f);
}

}  // namespace lowrank
