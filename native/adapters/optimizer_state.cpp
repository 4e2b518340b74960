#include "adapters/optimizer_state.h"

#include <algorithm>

#include "adapters/adapter.h"

namespace lowrank {
namespace {

int64_t blocks_of(int64_t count) { return (count + kDynamicBlock - 1) / kDynamicBlock; }

/// Of an array: its floats, or the blocks' largest magnitudes and then the codes, up to whole words.
int64_t array_bytes(int64_t count, bool coded) {
  constexpr int64_t kWord = sizeof(float);
  return coded ? kWord * blocks_of(count) + (count + kWord - 1) / kWord * kWord : kWord * count;
}

}  // namespace

std::vector<StateArray> state_arrays(const ParameterSpec& p, const StateSpec& spec) {
  const bool coded = spec.eight_bit && p.rows * p.cols >= kLeastEightBit;
  switch (spec.kind) {
    case OptimizerKind::adamw:
      return {{"m", p.rows, p.cols, coded}, {coded ? "sqrt_v" : "v", p.rows, p.cols, coded}};
    case OptimizerKind::lion:
      return {{"m", p.rows, p.cols, coded}};
    case OptimizerKind::sgd:
      return spec.momentum ? std::vector<StateArray>{{"m", p.rows, p.cols}} : std::vector<StateArray>{};
    case OptimizerKind::adafactor:
      if (p.rows == 1 || p.cols == 1) return {{"v", p.rows, p.cols}};
      return {{"row", 1, p.rows}, {"column", 1, p.cols}};
  }
  return {};
}

int64_t state_bytes(const AdapterSpec& adapter) {
  int64_t bytes = 0;
  for (const ParameterSpec& p : adapter.parameters) {
    if (!p.trained) continue;
    for (const StateArray& array : state_arrays(p, adapter.state)) bytes += array_bytes(array.count(), array.coded);
  }
  return bytes;
}

OptimizerState::OptimizerState(const AdapterSpec& adapter)
    : adapter_(adapter), block_(Category::optimizer, state_bytes(adapter)), views_(adapter.parameters.size()) {
  std::byte* at = block_.data();
  for (size_t i = 0; i < views_.size(); ++i) {
    const ParameterSpec& p = adapter.parameters[i];
    if (!p.trained) continue;
    for (const StateArray& array : state_arrays(p, adapter.state)) {
      auto* const floats = reinterpret_cast<float*>(at);
      if (array.coded)
        views_[i].push_back({nullptr, {reinterpret_cast<uint8_t*>(floats + blocks_of(array.count())), floats}});
      else
        views_[i].push_back({floats, {}});
      at += array_bytes(array.count(), array.coded);
    }
  }
}

std::vector<StateTensor> OptimizerState::tensors(int parameter) const {
  std::vector<StateTensor> tensors;
  const ParameterSpec& p = adapter_.parameters[parameter];
  if (!p.trained) return tensors;
  const std::vector<StateArray> arrays = state_arrays(p, adapter_.state);
  const auto bytes_of = [](auto* data) { return reinterpret_cast<std::byte*>(data); };
  for (size_t i = 0; i < arrays.size(); ++i) {
    const StateArray& array = arrays[i];
    const StateView& view = views_[parameter][i];
    const std::vector<int64_t> shape{array.rows, array.cols};
    const std::string name(array.name);
    if (!array.coded) {
      tensors.push_back({name, false, shape, bytes_of(view.floats), array.count() * 4});
      continue;
    }
    const int64_t blocks = blocks_of(array.count());
    tensors.push_back({name, true, shape, bytes_of(view.codes.codes), array.count()});
    tensors.push_back({name + "_absmax", false, {blocks}, bytes_of(view.codes.absmax), blocks * 4});
  }
  return tensors;
}

void OptimizerState::clear() { std::fill_n(block_.data(), block_.bytes(), std::byte{0}); }

}  // namespace lowrank
