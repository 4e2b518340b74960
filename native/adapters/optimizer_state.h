// Optimizer state of an adapter's trained parameters: arrays for each, in fp32 or as block-wise
// 8-bit numbers. What does not fit into a budget waits beside the device's memory, and comes by turns as it is updated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/memory.h"
#include "device/optimizer_kernels.h"
#include "graph/adapter_spec.h"

namespace lowrank {

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
  int64_t bytes = 0;
};

/// The arrays of a trained parameter.
std::vector<StateArray> state_arrays(const ParameterSpec& parameter, const StateSpec& spec);

/// Elements of a parameter, a whole number of blocks unless they are its last, and where their arrays lie one after the
/// other: bytes from the start of what is resident, or of a chunk.
struct StatePiece {
  int parameter = -1;
  int64_t begin = 0, count = 0;
  int64_t offset = 0;
};

/// Layout of the state. Whole parameters stay resident, in order, as long as there is room; the others come in chunks.
struct StateLayout {
  std::vector<StatePiece> resident;
  std::vector<std::vector<StatePiece>> chunks;
  int64_t resident_bytes = 0;
  int64_t chunk_bytes = 0;  // of each; whole pages

  /// Bytes of memory that is allocated for it.
  int64_t allocated_bytes() const;
  /// Bytes of the stash for the rest.
  int64_t file_bytes() const { return static_cast<int64_t>(chunks.size()) * chunk_bytes; }
};

/// Throws Error("CONFIG") for a budget that is too small to work with, or state of clients that has to be in memory.
StateLayout lay_out_state(const AdapterSpec& adapter);

class OptimizerState {
 public:
  /// All zero; refers to the adapter's description. Throws Error("OUT_OF_MEMORY"), and Error("WRITE") where its file
  /// cannot be made.
  OptimizerState(const AdapterSpec& adapter, Memory& memory);

  /// Back to zero.
  void clear();
  /// All of what is resident, for copies.
  Ptr<std::byte> data() const { return resident_->data(); }
  int64_t bytes() const { return resident_->bytes(); }
  /// Stash of the state that is not in memory; null if all of it is.
  const Stash* stash() const { return stash_.get(); }
  /// Memory of the arrays that are updated.
  std::vector<const Allocation*> memory() const { return {resident_.get(), ring_.get()}; }

  /// Calls visit(pieces, base) until every piece was there once: base + piece.offset is where its arrays begin. What was
  /// changed is kept. Reading and writing go on meanwhile. Throws Error("WRITE") and Error("FILE_FORMAT").
  using Visit = std::function<void(const std::vector<StatePiece>& pieces, Ptr<std::byte> base)>;
  void sweep(const Visit& visit);
  /// The same of one parameter, for state that is updated in the backward pass. Writing goes on until the next visit, or
  /// `settle`.
  void visit(int parameter, const Visit& visit);
  /// Asks for the state of a parameter that is visited soon.
  void will_need(int parameter) const;
  /// Waits until what was visited is written.
  void settle();

  /// The arrays of a piece, in the order of state_arrays.
  std::vector<Moments> views(const StatePiece& piece, Ptr<std::byte> base) const;
  /// Views of a parameter that is resident; throws Error("CONFIG") for others.
  std::vector<Moments> views(int parameter) const;

  /// The state of a parameter as files have it; nothing of one that is frozen.
  std::vector<StateTensor> tensors(int parameter) const;
  /// Copies `count` bytes of it out, from `begin` on.
  void read(int parameter, const std::string& tensor, int64_t begin, int64_t count, std::byte* out) const;
  void write(int parameter, const std::string& tensor, const std::byte* bytes);

 private:
  /// Calls each(at, bytes, resident) for the stretches that a tensor lies in, in order; `at` counts from the start of what
  /// is resident, or of the stash.
  using Stretch = std::function<void(int64_t at, int64_t bytes, bool resident)>;
  /// A piece of a parameter that is updated on its own, and the whole pages of the stash that it takes.
  struct PagedPiece {
    const StatePiece* piece;
    int64_t at, bytes;
  };
  std::vector<PagedPiece> paged_pieces(int parameter) const;
  void each_stretch(int parameter, const std::string& tensor, const Stretch& each) const;

  const AdapterSpec& adapter_;
  StateLayout layout_;
  Memory& memory_;
  std::unique_ptr<Allocation> resident_, ring_;
  std::unique_ptr<Stash> stash_;
};

}  // namespace lowrank
