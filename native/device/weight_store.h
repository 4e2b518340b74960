// A model's weights before they are placed on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "quant/weight.h"

namespace lowrank {

/// Rows of a table or head that are read at a time: a product over more rows accumulates in fp32, so only these need to
/// be in memory.
inline constexpr int64_t kTableRows = 8192;

struct WeightRows {
  int weight;
  int64_t begin, end;
};

/// Layout of a base that is streamed through a device's memory. Its matrices are stored consecutively in an image on
/// the host, in units transferred as a whole: the matrices of a block, or rows of the head. Some units stay on the
/// device; the others alternate between two slots.
struct WeightStream {
  /// Offsets in the image; -1 if not in it.
  struct Place {
    int64_t elements = -1, constants = -1;
  };
  struct Unit {
    int64_t begin = 0, bytes = 0;  // in the image
    int64_t home = -1;             // offset in device memory; -1: in the slots
    std::vector<WeightRows> parts;
  };
  std::vector<Place> places;               // by weight; none for vectors
  std::vector<std::vector<int>> units_of;  // by weight, and by kTableRows if rows are split; none: looked up by host
  std::vector<Unit> units;
  int64_t image_bytes = 0;
  int64_t slot_bytes = 0;
  int64_t device_bytes = 0;  // both slots, then the resident units

  /// True for weights that stay on the device as a whole, including those not in the image.
  bool keeps(int weight) const {
    if (places[static_cast<size_t>(weight)].elements < 0) return true;
    const std::vector<int>& there = units_of[static_cast<size_t>(weight)];
    return there.size() == 1 && units[static_cast<size_t>(there[0])].home >= 0;
  }
  bool holds(int weight) const { return !units_of[static_cast<size_t>(weight)].empty(); }
  int unit_of(int weight, int64_t row) const {
    const std::vector<int>& units_there = units_of[static_cast<size_t>(weight)];
    return units_there.size() == 1 ? units_there[0] : units_there[static_cast<size_t>(row / kTableRows)];
  }
};

/// Keeps rows of weights in memory for its lifetime.
class Hold {
 public:
  virtual ~Hold() = default;
};

/// Weights in host memory or in memory-mapped files, by their index in the graph.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  /// Throws Error("CONFIG") while weights are missing.
  virtual void expect_loaded() const = 0;
  /// The same for stores of the same weights.
  virtual const void* model() const = 0;
  virtual int count() const = 0;
  virtual WeightView view(int weight) const = 0;
  /// Maximum rows of a weight held at a time.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows into memory; null if all of them are always there.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) const = 0;
  /// Maximum number of table rows per scattered lookup; 0 for no limit.
  virtual int64_t gathered_at_once(int weight) const = 0;
  /// Brings such rows into memory temporarily.
  virtual std::unique_ptr<Hold> gather(int weight, std::span<const int32_t> rows) const = 0;
  /// Sets the order in which rows will be held, repeating from the start.
  virtual void expect(std::span<const WeightRows> /*order*/) const {}
  /// The layout of a base streamed through device memory; null if it is there as a whole.
  virtual const WeightStream* stream() const { return nullptr; }
  /// Its image in pinned memory; null if the system refused that, and rows are held and copied one by one.
  virtual const std::byte* image() const { return nullptr; }
};

}  // namespace lowrank
