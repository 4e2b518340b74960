// An adapter's parameters, gradients and optimizer state: flat spans of a device's memory outside the arena, so that
// switching, clipping, averaging and checkpoints are copies and reductions over spans. Trained parameters come first in the value span; the
// gradient and moment spans cover just those.
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

/// Row norms at a term with a magnitude, kept until the values or the base change.
struct RowNorms {
  Ptr<double> squares;             // [out] ||W_i||^2
  Ptr<float> norms;                // [out] ||W_i + delta_i||
  std::weak_ptr<const void> base;  // whose W `squares` are of
  uint64_t version = 0;            // of the values that `norms` are of

  bool is_of(const std::shared_ptr<const void>& other) const {
    return !base.owner_before(other) && !other.owner_before(base);
  }
};

enum class Touch : uint8_t { read, write };

class Adapter {
 public:
  /// @param memory of the device that it is used on, which lives longer
  Adapter(AdapterSpec spec, Memory& memory);

  const AdapterSpec& spec() const { return spec_; }
  int parameter(const std::string& name) const;  // throws Error("CONFIG") for an unknown name

  Memory& memory() const { return memory_; }

  /// Address of a parameter's array, or null if it has none (gradients of frozen parameters).
  Ptr<float> at(int parameter, AdapterArray array = AdapterArray::value) const;
  /// Address of all parameters' arrays.
  Ptr<float> span(AdapterArray array) const;
  /// The array of a parameter as the host sees it, to read and to change; empty where it has none.
  HostView<const float> view(int parameter, AdapterArray array = AdapterArray::value) const;
  HostView<float> edit(int parameter, AdapterArray array = AdapterArray::value);
  /// Sets the address of a parameter's gradient while it is updated in the backward pass; null: none.
  void place_gradient(int parameter, Ptr<float> at) { placed_[parameter] = at; }

  /// Memory that steps read or write: values, its own gradients, norms of rows.
  std::vector<const Allocation*> step_memory() const;
  /// Memory that updates read or write.
  std::vector<const Allocation*> update_memory();

  /// Sum of a private round, laid out like the trained parameters, on the host; null without private training.
  double* private_sum() const { return private_sum_.data<double>(); }
  /// Values that a round of clients began with, laid out so, and the state as its bytes; else null.
  Ptr<float> kept_values() const { return address_in(kept_values_).as<float>(); }
  Ptr<std::byte> kept_state() const { return address_in(kept_state_); }

  /// The optimizer's state; made when it is first asked for, since most adapters never train.
  OptimizerState& state();
  /// Frees the state, and the gradients it goes with, unless it is of this kind already. New ones are zero.
  void set_state(const StateSpec& spec);

  /// Row norms of a term with a magnitude, by its place in the description; for the engine's thread.
  RowNorms& row_norms(int term) { return row_norms_.at(static_cast<size_t>(term)); }
  /// Counts changes of the values, from 1. Whoever writes values says so.
  uint64_t version() const { return version_; }
  void values_changed() { ++version_; }
  /// Back to before the first update: gradients, state and importances are zero, and the latter are followed again.
  void restart();
  void zero_gradients() {
    if (gradients_) gradients_->clear();
  }
  /// Frees the importances; updates no longer follow them.
  void drop_importances();

  /// For JavaScript's thread: throws Error("CONFIG") while a job that is queued or running writes the array, or reads
  /// it where it is to be written.
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
  std::vector<Ptr<float>> placed_;  // gradients by parameter, where the adapter has none of its own
  std::optional<OptimizerState> state_;
  std::vector<RowNorms> row_norms_;  // by term; empty if none has a magnitude
  std::atomic<uint64_t> version_{1};
  std::array<std::atomic<int>, 3> uses_{};  // by AdapterUse::Kind
};

/// A job's claim on an adapter's arrays, from when it is queued until its promise settles.
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

/// Uniform and normal fills by counter from (seed, parameter name), so that the order of calls does not matter.
void fill_uniform(float* out, int64_t count, float bound, uint64_t seed, const std::string& name);
void fill_normal(float* out, int64_t count, float std, uint64_t seed, const std::string& name);

}  // namespace lowrank
