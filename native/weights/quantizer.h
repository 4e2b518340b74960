// Quantizes a weight from its rows, a few at a time; used both for loading and for merging.
#pragma once

#include <optional>

#include "core/memory.h"
#include "core/pool.h"
#include "weights/weights.h"

namespace lowrank {

/// The result depends neither on the number of threads nor on the rows per call. Blocks of 4-bit codes follow the
/// flattened matrix, so an incomplete block at the end of the rows is carried over to the next call.
class Quantizer {
 public:
  /// A value that cannot be quantized, and its index in the flattened matrix.
  struct Bad {
    int64_t at;
    float value;
  };

  /// @param most_rows maximum rows per call
  Quantizer(Pool& pool, Weight& weight, int64_t most_rows);

  /// Buffer for the next rows [most_rows, cols].
  float* rows() const { return buffer_.data<float>() + kCodeBlock; }

  /// Quantizes the first `count` rows; returns the first non-finite value, after which the object is unusable.
  [[nodiscard]] std::optional<Bad> take(int64_t count);

  /// After the last row.
  void finish();

 private:
  std::optional<Bad> take_int8(int64_t count);
  std::optional<Bad> take_four_bit(int64_t count);

  Pool& pool_;
  Weight& weight_;
  Block buffer_;         // carried elements, followed by the rows
  Block absmax_;         // for double quantization, until it is quantized
  int64_t taken_ = 0;    // rows
  int64_t carried_ = 0;  // elements of an incomplete block
};

}  // namespace lowrank
