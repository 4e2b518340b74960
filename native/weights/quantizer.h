// Fills a quantized weight from its rows, some at a time: what is loaded and what is merged is quantized by the same code.
#pragma once

#include <optional>

#include "core/memory.h"
#include "core/pool.h"
#include "weights/weights.h"

namespace lowrank {

/// The result depends neither on the number of threads nor on how many rows come at a time. Blocks of 4-bit codes follow the
/// flattened matrix: what the rows leave over of their last block is carried to the next ones.
class Quantizer {
 public:
  /// A number that no code can stand for, and which element of the flattened matrix it is.
  struct Bad {
    int64_t at;
    float value;
  };

  /// @param most_rows that come at a time
  Quantizer(Pool& pool, Weight& weight, int64_t most_rows);

  /// Room for the next rows [most_rows, cols].
  float* rows() const { return buffer_.data<float>() + kCodeBlock; }

  /// Quantizes the first `count` rows there; returns the first number that is not finite, after which it is of no more use.
  [[nodiscard]] std::optional<Bad> take(int64_t count);

  /// After the last row.
  void finish();

 private:
  std::optional<Bad> take_int8(int64_t count);
  std::optional<Bad> take_four_bit(int64_t count);

  Pool& pool_;
  Weight& weight_;
  Block buffer_;      // what was carried, up to the rows
  Block absmax_;      // of double quantization, until it is quantized itself
  int64_t taken_ = 0;    // rows
  int64_t carried_ = 0;  // elements of a block that is not full
};

}  // namespace lowrank
