#include "adapters/merge.h"

#include <algorithm>
#include <cmath>

#include "adapters/sites.h"

namespace lowrank {

MergedRows::MergedRows(const WeightView& base, const std::string& name, const std::vector<WeightedAdapter>& adapters,
                       const std::string& target)
    : base_(base) {
  if (target.empty()) return;
  for (const auto& [adapter, counts, rank] : adapters) {
    const std::unique_ptr<const Term> term = term_at(adapter->spec(), target, name, base.rows, base.cols);
    if (term == nullptr) continue;
    const int scaling = adapter->spec().facts[term->index()].magnitude;
    HostView<const float> magnitude = scaling < 0 ? HostView<const float>() : adapter->view(scaling);
    changes_.push_back({term->delta_rows(*adapter, magnitude ? 1 : counts, rank), counts, std::move(magnitude)});
  }
  std::stable_partition(changes_.begin(), changes_.end(),
                        [](const Change& change) { return change.rows->comes_first(); });
}

/// The sum of the changes of a row, of which a magnitude's is that of the whole; returns the share of the row itself.
float MergedRows::sum_changes(int64_t row, const float* base, float* sum, float* own) const {
  const int64_t cols = base_.cols;
  const std::span<const float> of_base{base, static_cast<size_t>(cols)};
  std::fill(sum, sum + cols, 0.0f);
  float rest = 1;
  for (const Change& change : changes_) {
    if (!change.magnitude) {
      change.rows->add(row, of_base, {sum, of_base.size()});
      continue;
    }
    std::fill(own, own + cols, 0.0f);
    change.rows->add(row, of_base, {own, of_base.size()});
    double square = 0;
    for (int64_t i = 0; i < cols; ++i) {
      own[i] += base[i];
      square += double{own[i]} * own[i];
    }
    const auto gain = static_cast<float>(change.counts * change.magnitude[row] / std::sqrt(std::max(square, 1e-30)));
    for (int64_t i = 0; i < cols; ++i) sum[i] += gain * own[i];
    rest -= change.counts;
  }
  return rest;
}

void MergedRows::merged(int64_t row, float* out, Room& room) const {
  decode_row(base_, row, 0, base_.cols, out);
  if (changes_.empty()) return;
  const float rest = sum_changes(row, out, room.sum.data(), room.own.data());
  for (int64_t i = 0; i < base_.cols; ++i) out[i] = rest * out[i] + room.sum[i];
}

void MergedRows::change(int64_t row, float* out, Room& room) const {
  float* const base = room.sum.data();
  decode_row(base_, row, 0, base_.cols, base);
  const float rest = sum_changes(row, base, out, room.own.data());
  if (rest == 1) return;
  for (int64_t i = 0; i < base_.cols; ++i) out[i] += (rest - 1) * base[i];
}

}  // namespace lowrank
