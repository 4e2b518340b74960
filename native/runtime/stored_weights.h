// A model's weights as the CPU's kernels find them, paged or not.
#pragma once

#include "backends/cpu/device.h"
#include "runtime/session.h"

namespace lowrank {

class StoredWeights final : public cpu::WeightStore {
 public:
  explicit StoredWeights(const Model& model) : model_(model) {}
  WeightView view(int weight) const override { return model_.weights[weight].view(); }
  int64_t rows_at_once(int, int64_t rows) const override { return model_.pager ? kTableRows : rows; }
  std::unique_ptr<Hold> hold(const WeightRows& rows) const override {
    if (!model_.pager) return nullptr;
    return std::make_unique<Pinned>(model_.hold(rows.weight, rows.begin, rows.end));
  }

 private:
  struct Pinned final : Hold {
    explicit Pinned(Held given) : held(std::move(given)) {}
    Held held;
  };
  const Model& model_;
};

}  // namespace lowrank
