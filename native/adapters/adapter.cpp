#include "adapters/adapter.h"

#include <cmath>
#include <numbers>

#include "adapters/check.h"
#include "core/error.h"
#include "core/math.h"

namespace lowrank {
namespace {

constexpr int64_t kFloat = sizeof(float);
uint64_t stream_key(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(seed + 0x9e3779b97f4a7c15u) ^ hash;
}

}  // namespace

Adapter::Adapter(AdapterSpec spec, Memory& memory) : spec_(std::move(spec)), memory_(memory) {
  check_adapter(spec_);
  for (size_t i = 0; i < spec_.parameters.size(); ++i) index_.emplace(spec_.parameters[i].name, static_cast<int>(i));
  values_ = memory.allocate(Category::adapters, spec_.elements * kFloat);
  if (spec_.trainable) {
    make_gradients();
    make_importances();
    private_sum_ = Block(Category::gradients, spec_.private_sum_bytes());
    if (spec_.keeps_start()) kept_values_ = memory.allocate(Category::adapters, spec_.trained_elements * kFloat);
  }
  if (spec_.norm_rows == 0) return;
  norms_ = memory.allocate(Category::adapters, spec_.norm_bytes());
  const Ptr<double> squares = norms_->data().as<double>();
  const Ptr<float> norms = (squares + spec_.norm_rows).as<float>();
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
  gradients_ = memory_.allocate(Category::gradients, spec_.gradient_bytes());
  placed_.assign(spec_.parameters.size(), {});
}

void Adapter::make_importances() {
  if (sensitivity_ || spec_.tracked_elements == 0) return;
  // Both or neither, even if memory runs out between the two.
  Own sensitivity = memory_.allocate(Category::optimizer, spec_.tracked_elements * kFloat);
  uncertainty_ = memory_.allocate(Category::optimizer, spec_.tracked_elements * kFloat);
  sensitivity_ = std::move(sensitivity);
}

void Adapter::restart() {
  if (!spec_.trainable) return;
  make_importances();
  zero_gradients();
  for (const Own* own : {&sensitivity_, &uncertainty_})
    if (*own) (*own)->clear();
  state().clear();
}

OptimizerState& Adapter::state() {
  if (!spec_.trainable) fail("CONFIG", "the adapter was not created as trainable");
  if (!state_) {
    state_.emplace(spec_, memory_);
    if (spec_.keeps_start()) kept_state_ = memory_.allocate(Category::optimizer, state_->bytes());
  }
  return *state_;
}

void Adapter::set_state(const StateSpec& spec) {
  if (spec == spec_.state) return;
  state_.reset();
  kept_state_.reset();
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
  sensitivity_.reset();
  uncertainty_.reset();
}

int Adapter::parameter(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail("CONFIG", "the adapter has no parameter '", name, "'");
  return found->second;
}

Ptr<float> Adapter::span(AdapterArray array) const {
  const auto own = [&]() -> const Own& {
    switch (array) {
      case AdapterArray::value:
        return values_;
      case AdapterArray::gradient:
        return gradients_;
      case AdapterArray::sensitivity:
        return sensitivity_;
      case AdapterArray::uncertainty:
        return uncertainty_;
    }
    fail("INTERNAL", "unknown array ", static_cast<int>(array));
  };
  return address_in(own()).as<float>();
}

std::vector<const Allocation*> Adapter::step_memory() const {
  std::vector<const Allocation*> all;
  for (const Own* own : {&values_, &gradients_, &norms_})
    if (*own) all.push_back(own->get());
  return all;
}

std::vector<const Allocation*> Adapter::update_memory() {
  std::vector<const Allocation*> all = step_memory();
  for (const Own* own : {&sensitivity_, &uncertainty_})
    if (*own) all.push_back(own->get());
  for (const Allocation* own : state().memory()) all.push_back(own);
  return all;
}

void Adapter::expect_idle(AdapterArray array, Touch touch) const {
  const auto used = [&](AdapterUse::Kind kind) { return uses_[static_cast<size_t>(kind)].load() > 0; };
  const bool busy = used(AdapterUse::Kind::update) ||
                    (array == AdapterArray::gradient && used(AdapterUse::Kind::train)) ||
                    (array == AdapterArray::value && touch == Touch::write &&
                     (used(AdapterUse::Kind::train) || used(AdapterUse::Kind::infer)));
  if (busy)
    fail("CONFIG", "the adapter is in use by a running job; wait until it ends before ",
         touch == Touch::read ? "reading" : "changing", " the adapter");
}

AdapterUse::AdapterUse(std::shared_ptr<Adapter> adapter, Kind kind) : adapter_(std::move(adapter)), kind_(kind) {
  ++adapter_->uses_[static_cast<size_t>(kind_)];
}

AdapterUse::~AdapterUse() {
  if (adapter_) --adapter_->uses_[static_cast<size_t>(kind_)];
}

Ptr<float> Adapter::at(int parameter, AdapterArray array) const {
  const int64_t offset = spec_.offsets[parameter], tracked = spec_.tracked[parameter];
  if (array == AdapterArray::value) return span(array) + offset;
  if (!spec_.trains(parameter)) return {};
  if (array == AdapterArray::gradient) return address_in(gradients_) ? span(array) + offset : placed_[parameter];
  return tracked >= 0 && sensitivity_ ? span(array) + tracked : Ptr<float>();
}

HostView<const float> Adapter::view(int parameter, AdapterArray array) const {
  const ParameterSpec& p = spec_.parameters[parameter];
  return {memory_, at(parameter, array), p.rows * p.cols, "adapter"};
}

HostView<float> Adapter::edit(int parameter, AdapterArray array) {
  const ParameterSpec& p = spec_.parameters[parameter];
  return {memory_, at(parameter, array), p.rows * p.cols, "adapter"};
}

void fill_uniform(float* out, int64_t count, float bound, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>((2 * draw(key, i) - 1) * bound);
}

void fill_normal(float* out, int64_t count, float std, uint64_t seed, const std::string& name) {
  const uint64_t key = stream_key(seed, name);
  for (int64_t i = 0; i < count; ++i) {
    const double radius = std::sqrt(-2 * math::log(draw(key, 2 * i)));  // Box-Muller
    out[i] = static_cast<float>(std * radius * math::cos(2 * std::numbers::pi * draw(key, 2 * i + 1)));
  }
}

}  // namespace lowrank
