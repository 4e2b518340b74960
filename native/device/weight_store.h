// A model's weights before a device has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "quant/weight.h"

namespace lowrank {

/// Rows of a table or head that are read at a time: what a product leaves over of longer ones adds up in fp32, so that
/// only these rows need to be in memory.
inline constexpr int64_t kTableRows = 8192;

struct WeightRows {
  int weight;
  int64_t begin, end;
};

/// Layout of a base that passes through a device's memory. Its matrices lie one after the other in an image on the host,
/// in units that come to the device whole: the matrices of a block, or rows of the head. Some units stay there, and the
/// others take turns in two slots.
struct WeightStream {
  /// Offsets in the image; -1 for what is not in it.
  struct Place {
    int64_t elements = -1, constants = -1;
  };
  struct Unit {
    int64_t begin = 0, bytes = 0;  // in the image
    int64_t home = -1;             // offset in the device's memory; -1: in the slots
    std::vector<WeightRows> parts;
  };
  std::vector<Place> places;             // by weight; vectors have none
  std::vector<std::vector<int>> units_of;  // by weight, by kTableRows where rows are cut; none: the host looks rows up
  std::vector<Unit> units;
  int64_t image_bytes = 0;
  int64_t slot_bytes = 0;
  int64_t device_bytes = 0;  // of both slots, then of the units that stay

  /// True for weights that stay on the device as a whole, those without a place in the image among them.
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

/// Rows of weights in memory for as long as it lives.
class Hold {
 public:
  virtual ~Hold() = default;
};

/// Weights in the host's memory or in files that it maps, by their number in the graph.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  /// Throws Error("CONFIG") while weights are missing.
  virtual void expect_loaded() const = 0;
  /// The same for stores of the same weights.
  virtual const void* model() const = 0;
  virtual int count() const = 0;
  virtual WeightView view(int weight) const = 0;
  /// Rows of a weight that can be held at a time.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows to memory; null where all of them always are.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) const = 0;
  /// Rows of a table that are looked up at a time where they are read here and there; 0 for any number of them.
  virtual int64_t gathered_at_once(int weight) const = 0;
  /// Brings such rows to memory, of which none stays.
  virtual std::unique_ptr<Hold> gather(int weight, std::span<const int32_t> rows) const = 0;
  /// Order in which rows are held from now on; then it begins again.
  virtual void expect(std::span<const WeightRows> /*order*/) const {}
  /// The layout of a base that passes through the device's memory; null for one that is there whole.
  virtual const WeightStream* stream() const { return nullptr; }
  /// Its image, in pinned memory; null where the system refused that, and rows are held and copied one by one.
  virtual const std::byte* image() const { return nullptr; }
};

}  // namespace lowrank
