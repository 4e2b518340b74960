#include "adapters/adapter.h"

#include <cmath>
#include <numbers>

#include "adapters/check.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr int64_t kFloat = sizeof(float);
uint64_t stream_key(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(seed + 0x9e3779b97f4a7c15u) ^ hash;
}

}  // namespace

Adapter::Adapter(AdapterSpec spec) : spec_(std::move(spec)) {
  check_adapter(spec_);
  for (size_t i = 0; i < spec_.parameters.size(); ++i) index_.emplace(spec_.parameters[i].name, static_cast<int>(i));
  values_ = Block(Category::adapters, spec_.elements * kFloat);
  if (spec_.trainable) {
    make_gradients();
    make_importances();
    private_sum_ = Block(Category::gradients, spec_.private_sum_bytes());
    if (spec_.keeps_start()) kept_values_ = Block(Category::adapters, spec_.trained_elements * kFloat);
  }
  if (spec_.norm_rows == 0) return;
  norms_ = Block(Category::adapters, spec_.norm_bytes());
  double* const squares = norms_.data<double>();
  float* const norms = reinterpret_cast<float*>(squares + spec_.norm_rows);
  row_norms_.resize(spec_.terms.size());
  int64_t rows = 0;
  for (size_t i = 0; i < row_norms_.size(); ++i) {
    if (spec_.facts[i].magnitude < 0) continue;
    row_norms_[i].squares = squares + rows;
    row_norms_[i].norms = norms + rows;
    rows += spec_.parameters[spec_.facts[i].magnitude].cols;
  }
}

void Adapter::make_gradients() {
  gradients_ = Block(Category::gradients, spec_.gradient_bytes());
  placed_.assign(spec_.parameters.size(), nullptr);
}

void Adapter::make_importances() {
  if (sensitivity_ || spec_.tracked_elements == 0) return;
  // Both or none, should memory run out between the two.
  Block sensitivity(Category::optimizer, spec_.tracked_elements * kFloat);
  uncertainty_ = Block(Category::optimizer, spec_.tracked_elements * kFloat);
  sensitivity_ = std::move(sensitivity);
}

void Adapter::restart() {
  if (!spec_.trainable) return;
  make_importances();
  zero_gradients();
  for (Block* block : {&sensitivity_, &uncertainty_}) block->clear();
  state().clear();
}

OptimizerState& Adapter::state() {
  if (!spec_.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (!state_) {
    state_.emplace(spec_);
    if (spec_.keeps_start()) kept_state_ = Block(Category::optimizer, state_->bytes());
  }
  return *state_;
}

void Adapter::set_state(const StateSpec& spec) {
  if (spec == spec_.state) return;
  state_.reset();
  kept_state_ = Block();
  const StateSpec before = std::exchange(spec_.state, spec);
  if (!spec_.trainable || spec.in_backward == before.in_backward) return;
  try {
    make_gradients();
  } catch (...) {
    spec_.state = before;  // which says where gradients lie
    throw;
  }
}

void Adapter::drop_importances() {
  sensitivity_ = Block();
  uncertainty_ = Block();
}

int Adapter::parameter(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail("CONFIG", "the adapter has no parameter '", name, "'");
  return found->second;
}

float* Adapter::span(AdapterArray array) const {
  switch (array) {
    case AdapterArray::value:
      return values_.data<float>();
    case AdapterArray::gradient:
      return gradients_.data<float>();
    case AdapterArray::sensitivity:
      return sensitivity_.data<float>();
    case AdapterArray::uncertainty:
      return uncertainty_.data<float>();
  }
  return nullptr;
}

std::vector<std::span<std::byte>> Adapter::memory() const {
  std::vector<std::span<std::byte>> spans;
  for (const Block* block : {&values_, &gradients_, &norms_})
    if (*block) spans.emplace_back(block->data(), static_cast<size_t>(block->bytes()));
  return spans;
}

void Adapter::expect_idle(AdapterArray array, Touch touch) const {
  const auto used = [&](AdapterUse::Kind kind) { return uses_[static_cast<size_t>(kind)].load() > 0; };
  const bool busy = used(AdapterUse::Kind::update) ||
                    (array == AdapterArray::gradient && used(AdapterUse::Kind::train)) ||
                    (array == AdapterArray::value && touch == Touch::write &&
                     (used(AdapterUse::Kind::train) || used(AdapterUse::Kind::infer)));
  if (busy)
    fail("CONFIG", "the adapter is in use by a job that has not ended; wait for it before ",
         touch == Touch::read ? "reading" : "changing", " the adapter");
}

AdapterUse::AdapterUse(std::shared_ptr<Adapter> adapter, Kind kind) : adapter_(std::move(adapter)), kind_(kind) {
  ++adapter_->uses_[static_cast<size_t>(kind_)];
}

AdapterUse::~AdapterUse() {
  if (adapter_) --adapter_->uses_[static_cast<size_t>(kind_)];
}

float* Adapter::data(int parameter, AdapterArray array) const {
  const ParameterSpec& p = spec_.parameters[parameter];
  if (array == AdapterArray::value) return span(array) + p.offset;
  if (!spec_.trains(parameter)) return nullptr;
  if (array == AdapterArray::gradient) return gradients_ ? span(array) + p.offset : placed_[parameter];
  return p.tracked >= 0 && sensitivity_ ? span(array) + p.tracked : nullptr;
}

void fill_uniform(float* out, int64_t count, float bound, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>((2 * draw(key, i) - 1) * bound);
}

void fill_normal(float* out, int64_t count, float std, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) {
    const double radius = std::sqrt(-2 * std::log(draw(key, 2 * i)));  // Box-Muller
    out[i] = static_cast<float>(std * radius * std::cos(2 * std::numbers::pi * draw(key, 2 * i + 1)));
  }
}

}  // namespace lowrank
