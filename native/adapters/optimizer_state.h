// Optimizer state of an adapter's trained parameters, in fp32 or as block-wise 8-bit numbers. State that exceeds a
// memory budget is stored outside device memory and paged in when it is updated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/memory.h"
#include "graph/adapter_spec.h"
#include "kernels/updates.h"

namespace lowrank {

/// Parameters with fewer elements always keep fp32 state, as in bitsandbytes.
inline constexpr int64_t kLeastEightBit = 4096;

/// One array of a parameter's state: `m` and `v` for AdamW; `m` for Lion and SGD with momentum; for Adafactor, `row`
/// and `column` means of squares, or `v` for a vector. 8-bit AdamW stores the root of the second moment, `sqrt_v`,
/// whose range is half as wide, so that small moments do not underflow to a denominator of only epsilon.
struct StateArray {
  std::string_view name;
  int64_t rows = 0;
  int64_t cols = 0;
  bool coded = false;

  int64_t count() const { return rows * cols; }
  friend bool operator==(const StateArray&, const StateArray&) = default;
};

/// An array's floats, codes, or block maxima, in file format.
struct StateTensor {
  std::string name;
  bool codes = false;  // u8, else f32
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

/// The arrays of a trained parameter.
std::vector<StateArray> state_arrays(const ParameterSpec& parameter, const StateSpec& spec);

/// A range of a parameter's elements, in whole blocks except at its end, and the offset of its consecutive arrays in
/// bytes from the start of the resident state, or of a chunk.
struct StatePiece {
  int parameter = -1;
  int64_t begin = 0, count = 0;
  int64_t offset = 0;
};

/// Layout of the state. Whole parameters stay resident, in order, while there is room; the rest is divided into chunks.
struct StateLayout {
  std::vector<StatePiece> resident;
  std::vector<std::vector<StatePiece>> chunks;
  int64_t resident_bytes = 0;
  int64_t chunk_bytes = 0;  // of each chunk; whole pages

  /// Bytes of allocated memory.
  int64_t allocated_bytes() const;
  /// Bytes of the stash for the paged part.
  int64_t file_bytes() const { return static_cast<int64_t>(chunks.size()) * chunk_bytes; }
};

/// Throws Error("CONFIG") for a budget that is too small, or for client state, which must be in memory.
StateLayout lay_out_state(const AdapterSpec& adapter);

class OptimizerState {
 public:
  /// All zero. Refers to the adapter's description. Throws Error("OUT_OF_MEMORY"), and Error("WRITE") if its file
  /// cannot be created.
  OptimizerState(const AdapterSpec& adapter, Memory& memory);

  /// Resets to zero.
  void clear();
  /// The entire resident part, for copies.
  Ptr<std::byte> data() const { return resident_->data(); }
  int64_t bytes() const { return resident_->bytes(); }
  /// Stash of the paged part; null if everything is in memory.
  const Stash* stash() const { return stash_.get(); }
  /// Memory of the arrays that are updated.
  std::vector<const Allocation*> memory() const { return {resident_.get(), ring_.get()}; }

  /// Calls visit(pieces, base) for all pieces, whose arrays begin at base + piece.offset. Changes are saved. Reads and
  /// writes overlap with the calls. Throws Error("WRITE") and Error("FILE_FORMAT").
  using Visit = std::function<void(const std::vector<StatePiece>& pieces, Ptr<std::byte> base)>;
  void sweep(const Visit& visit);
  /// The same for one parameter, for state updated in the backward pass. Writing continues in the background until the
  /// next visit, or `settle`.
  void visit(int parameter, const Visit& visit);
  /// Prefetches the state of a parameter that will be visited soon.
  void will_need(int parameter) const;
  /// Waits until all changes have been written.
  void settle();

  /// The arrays of a piece, in the order of state_arrays.
  std::vector<Moments> views(const StatePiece& piece, Ptr<std::byte> base) const;
  /// Views of a resident parameter; throws Error("CONFIG") for others.
  std::vector<Moments> views(int parameter) const;

  /// The state of a parameter in file format; empty for a frozen one.
  std::vector<StateTensor> tensors(int parameter) const;
  /// Copies `count` bytes out, starting at `begin`.
  void read(int parameter, const std::string& tensor, int64_t begin, int64_t count, std::byte* out) const;
  void write(int parameter, const std::string& tensor, const std::byte* bytes);

 private:
  /// Calls each(at, bytes, resident) for the ranges of a tensor, in order; `at` is relative to the resident part or the
  /// stash.
  using Stretch = std::function<void(int64_t at, int64_t bytes, bool resident)>;
  /// A piece of a parameter that is updated separately, and the whole pages of the stash it occupies.
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
