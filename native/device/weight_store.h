// A model's weights before a device has them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "quant/weight.h"

namespace lowrank {

struct WeightRows {
  int weight;
  int64_t begin, end;
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
};

}  // namespace lowrank
