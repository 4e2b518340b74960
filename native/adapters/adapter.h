// An adapter's parameters, gradients, and optimizer state: flat spans of device memory outside the arena, so that
// switching, clipping, averaging, and checkpoints are copies and reductions over spans. Trained parameters come first
// in the value span; the gradient and moment spans cover only those.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "adapters/optimizer_state.h"
#include "core/lists.h"
#include "core/memory.h"
#include "core/random.h"
#include "device/host_view.h"
#include "device/memory.h"
#include "graph/adapter_spec.h"

namespace lowrank {

/// Row norms at a term with a magnitude, cached until the values or the base change.
struct RowNorms {
  Ptr<double> squares;             // [out] ||W_i||^2
  Ptr<float> norms;                // [out] ||W_i + delta_i||
  std::weak_ptr<const void> base;  // the base whose `squares` these are
  uint64_t version = 0;            // version of the values used for `norms`

  bool is_of(const std::shared_ptr<const void>& other) const {
    return !base.owner_before(other) && !other.owner_before(base);
  }
};

enum class Touch : uint8_t { read, write };

class Adapter {
 public:
  /// @param memory of the device that it is used on; must outlive the adapter
  Adapter(AdapterSpec spec, Memory& memory);

  const AdapterSpec& spec() const { return spec_; }
  int parameter(const std::string& name) const;  // throws Error("CONFIG") for an unknown name

  Memory& memory() const { return memory_; }

  /// Address of a parameter's array; null if it has none (gradients of frozen parameters).
  Ptr<float> at(int parameter, AdapterArray array = AdapterArray::value) const;
  /// Address of the array over all parameters.
  Ptr<float> span(AdapterArray array) const;
  /// Host view of a parameter's array, read-only or editable; empty if it has none.
  HostView<const float> view(int parameter, AdapterArray array = AdapterArray::value) const;
  HostView<float> edit(int parameter, AdapterArray array = AdapterArray::value);
  /// Sets the address of a parameter's gradient while it is updated in the backward pass; null for none.
  void place_gradient(int parameter, Ptr<float> at) { placed_[parameter] = at; }

  /// Memory that steps access: values, the adapter's own gradients, and row norms.
  std::vector<const Allocation*> step_memory() const;
  /// Memory that updates access.
  std::vector<const Allocation*> update_memory();

  /// Host sum of a private training round, laid out like the trained parameters; null without private training.
  double* private_sum() const { return private_sum_.data<double>(); }
  /// Values at the start of a round over clients, in the same layout, and the raw bytes of the state; else null.
  Ptr<float> kept_values() const { return address_in(kept_values_).as<float>(); }
  Ptr<std::byte> kept_state() const { return address_in(kept_state_); }

  /// The optimizer state, created on first use, since most adapters never train.
  OptimizerState& state();
  /// Frees the state and its gradients unless it already has this kind. New ones are zero.
  void set_state(const StateSpec& spec);

  /// Row norms of a term with a magnitude, by index in the description; for the engine's thread only.
  RowNorms& row_norms(int term) { return row_norms_.at(static_cast<size_t>(term)); }
  /// Version of the values, counted from 1. Every writer must call values_changed().
  uint64_t version() const { return version_; }
  void values_changed() { ++version_; }
  /// Resets to before the first update: gradients, state, and importances are zero, and importances are tracked again.
  void restart();
  void zero_gradients() {
    if (gradients_) gradients_->clear();
  }
  /// Frees the importances; updates no longer track them.
  void drop_importances();

  /// For JavaScript's thread: throws Error("CONFIG") while a queued or running job writes the array, or reads an array
  /// that is to be written.
  void expect_idle(AdapterArray array, Touch touch) const;

 private:
  friend class AdapterUse;
  void make_importances();
  void make_gradients();

  using Own = std::unique_ptr<Allocation>;
  static Ptr<std::byte> address_in(const Own& own) { return own ? own->data() : Ptr<std::byte>(); }

  AdapterSpec spec_;
  Memory& memory_;
  std::unordered_map<std::string, int> index_;
  Own values_, gradients_, sensitivity_, uncertainty_, norms_;
  Own kept_values_, kept_state_;
  Block private_sum_;
  std::vector<Ptr<float>> placed_;  // gradients by parameter, if the adapter has none of its own
  std::optional<OptimizerState> state_;
  std::vector<RowNorms> row_norms_;  // by term; empty if none has a magnitude
  std::atomic<uint64_t> version_{1};
  std::array<std::atomic<int>, 3> uses_{};  // by AdapterUse::Kind
};

/// A job's claim on an adapter's arrays, from queueing until its promise settles.
class AdapterUse {
 public:
  /// Reads values; reads values and writes gradients; writes everything.
  enum class Kind : uint8_t { infer, train, update };

  AdapterUse(std::shared_ptr<Adapter> adapter, Kind kind);
  AdapterUse(AdapterUse&& other) noexcept = default;
  ~AdapterUse();

 private:
  std::shared_ptr<Adapter> adapter_;  // null once moved from
  Kind kind_;
};

/// Uniform and normal fills by a counter-based generator keyed by (seed, parameter name), independent of call order.
void fill_uniform(float* out, int64_t count, float bound, uint64_t seed, const std::string& name);
void fill_normal(float* out, int64_t count, float std, uint64_t seed, const std::string& name);

}  // namespace lowrank
