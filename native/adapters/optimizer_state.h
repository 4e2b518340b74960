// What an optimiser remembers of an adapter's trained parameters between steps: arrays of each, in fp32 or as block-wise
// 8-bit numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/memory.h"
#include "quant/dynamic.h"

namespace lowrank {

struct AdapterSpec;
struct ParameterSpec;

enum class OptimizerKind : uint8_t { adamw, sgd, lion, adafactor };

/// Which state is kept, and how.
struct StateSpec {
  OptimizerKind kind = OptimizerKind::adamw;
  bool momentum = true;    // of SGD: whether it has one
  bool eight_bit = false;  // of AdamW and Lion

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
};

/// Parameters with fewer elements keep fp32 state whatever is asked for, as in bitsandbytes.
inline constexpr int64_t kLeastEightBit = 4096;

/// One array of a parameter's state. AdamW has `m` and `v`, Lion and SGD with momentum `m`; Adafactor has of a matrix the
/// `row` and `column` means of squares, of a vector `v`. Of AdamW's second moment an 8-bit state holds the root,
/// `sqrt_v`: its range is half as wide, so that small moments do not underflow to a denominator of epsilon alone.
struct StateArray {
  std::string_view name;
  int64_t rows = 0;
  int64_t cols = 0;
  bool coded = false;

  int64_t count() const { return rows * cols; }
  friend bool operator==(const StateArray&, const StateArray&) = default;
};

/// The bytes of an array's floats, codes or largest magnitudes, as a file has them.
struct StateTensor {
  std::string name;
  bool codes = false;  // u8, else f32
  std::vector<int64_t> shape;
  std::byte* data = nullptr;
  int64_t bytes = 0;
};

/// Numbers of an array: floats, or codes.
struct StateView {
  float* floats = nullptr;
  DynamicCodes codes;

  /// From element `first` on, of codes a multiple of kDynamicBlock.
  StateView from(int64_t first) const {
    return {floats == nullptr ? nullptr : floats + first, codes.codes == nullptr ? DynamicCodes{} : codes.from(first)};
  }
};

/// The arrays of a trained parameter.
std::vector<StateArray> state_arrays(const ParameterSpec& parameter, const StateSpec& spec);
/// Bytes that the state takes.
int64_t state_bytes(const AdapterSpec& adapter);

class OptimizerState {
 public:
  /// All zero; refers to the adapter's description. Throws Error("OUT_OF_MEMORY").
  explicit OptimizerState(const AdapterSpec& adapter);

  /// Back to zero.
  void clear();
  /// All of it, for copies.
  std::byte* data() const { return block_.data(); }
  int64_t bytes() const { return block_.bytes(); }

  /// The arrays of a parameter, in the order of state_arrays; none of one that is frozen.
  const std::vector<StateView>& views(int parameter) const { return views_[parameter]; }
  /// The same as a file has them.
  std::vector<StateTensor> tensors(int parameter) const;

 private:
  const AdapterSpec& adapter_;
  Block block_;
  std::vector<std::vector<StateView>> views_;  // by parameter
};

}  // namespace lowrank
