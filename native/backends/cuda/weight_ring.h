// A base that passes through the card: units of weights come from the host beside the kernels, ahead of their use.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backends/cuda/memory.h"
#include "backends/cuda/weight.h"
#include "device/weight_store.h"

namespace lowrank::cuda {

/// Two slots on the card, and the units that stay there. A slot is filled again once the kernels are done that were
/// launched before its unit's turn ended, and kernels wait for the fetch of the unit that they read.
class WeightRing {
 public:
  /// Brings the units that stay to the card. Throws Error("OUT_OF_MEMORY").
  /// @param store with a stream; those of later calls are of the same weights
  WeightRing(CudaMemory& memory, const WeightStore& store, Weights& table);
  ~WeightRing();
  WeightRing(const WeightRing&) = delete;
  WeightRing& operator=(const WeightRing&) = delete;

  // The calling thread must have entered the card.
  /// Fetches the first units of the order.
  void expect(const WeightStore& store, std::span<const WeightRows> order);
  /// Has the kernels wait for the rows, and fetches the unit after theirs. Null for what stays.
  std::unique_ptr<Hold> hold(const WeightStore& store, const WeightRows& rows);
  /// Goes on with a fetch that the host has to copy, as far as it need not wait.
  void go_on(const WeightStore& store) {
    if (staged_) stage(store, false);
  }

  /// Bytes that were fetched so far.
  int64_t fetched() const { return fetched_; }

 private:
  struct Slot {
    int unit = -1;
    int holds = 0;
    bool on_its_way = false;  // no kernel has waited for it yet
    std::optional<Gpu::Mark> ready;
  };
  /// Copies through room of a few pinned pieces, where the image is not pinned itself.
  struct Staging {
    Staging(Gpu& gpu, int64_t slot_bytes);
    const int64_t piece;  // bytes
    Pinned pinned;
    std::array<std::optional<Gpu::Mark>, 4> ends;  // of the copies from a piece
    size_t next = 0;
  };
  struct Copied {
    int slot;
    std::vector<WeightRows> parts;
    size_t part = 0;
    bool constants = false;
    int64_t done = 0;  // bytes of the part's elements or constants
    std::unique_ptr<Hold> held;
  };

  Ptr<std::byte> address_of(int slot) const { return region_->data() + slot * stream_.slot_bytes; }
  int slot_of(int unit) const;
  /// The slot that is not held and whose unit is needed last; -1 where both are held.
  int free_slot() const;
  int64_t next_use(int unit) const;
  void fetch(const WeightStore& store, int unit, int into);
  void stage(const WeightStore& store, bool whole);
  void fetch_next(const WeightStore& store);
  void set(const WeightStore& store, const WeightStream::Unit& unit, Ptr<std::byte> at);
  void upload(const WeightStore& store, const WeightStream::Unit& unit, Ptr<std::byte> at);

  CudaMemory& memory_;
  Gpu& gpu_;
  const WeightStream& stream_;
  Weights& table_;
  std::unique_ptr<Allocation> region_;
  std::vector<Ptr<std::byte>> constants_;  // by weight, of tables whose rows are cut
  std::vector<std::unique_ptr<Allocation>> constants_memory_;
  std::array<Slot, 2> slots_;
  std::vector<int> order_;  // of units that take turns
  int64_t at_ = -1;         // place in it
  std::unique_ptr<Staging> staging_;
  std::optional<Copied> staged_;
  int64_t fetched_ = 0;
};

}  // namespace lowrank::cuda
