// Reads weights for export: rows of a loaded weight, plus adapter updates, in a file's element type. The values are
// those that kernels compute with (quantized weights are dequantized), so a merged file contains what was trained.
#pragma once

#include <string>
#include <vector>

#include "adapters/merge.h"
#include "core/boundary.h"
#include "core/context.h"
#include "weights/weights.h"

namespace lowrank {

/// Bytes of `cols` elements; a row of q8_0 must be whole blocks of 32.
int64_t file_bytes(FileType type, int64_t cols);

struct ReadOptions {
  FileType type = FileType::f32;
  int64_t begin = 0;  // first row, in output order
  int64_t count = 0;
  /// Writes rows in the order of GGUF files of the llama architecture, for this many heads; 0 keeps the order. See
  /// TensorSource::permuted_heads. For a vector this applies to elements, and it must be read as a whole.
  int64_t permuted_heads = 0;
  /// Path of the node whose adapters are added; empty for none.
  std::string target;
  /// Added to every element that is written; see TensorSource::shift.
  float shift = 0;
  /// Writes value heads in the order of GGUF files; see TensorSource::head_order.
  HeadOrder head_order = {};
  /// Writes -exp(value).
  bool negated_exp = false;
};

/// Row of the weight stored at `row` in a GGUF file whose heads have `head_rows` rows.
int64_t permuted_row(int64_t row, int64_t head_rows);

/// Rows of a weight plus scale * B A of every adapter that acts at the target, summed in fp32 and
/// rounded once. An adapter with a magnitude adds the difference between the scaled row and the row. A
/// trained copy of the weight replaces it. Throws Error: "SHAPE" for rows outside the weight or an
/// adapter that does not fit; "CONFIG" for a value that is not finite or that the type cannot hold;
/// "ABORTED".
std::vector<uint8_t> read_weight(Pool& pool, const Weight& weight, const std::string& name,
                                 const std::vector<WeightedAdapter>& adapters, const ReadOptions& options,
                                 const CancelFlag& cancel);

/// A weight with adapters merged and requantized, and how much of them survives.
struct Merged {
  Weight weight;
  MergeSums sums;
};

/// Quantizes the rows that `read_weight` would return, in the format of `held`, the same weight without adapters.
/// Throws as read_weight.
/// @param weight to which adapters are added: `held` itself, or the weight from which it was quantized
Merged merge_weight(Pool& pool, const Weight& weight, const Weight& held, const std::string& name,
                    const std::vector<WeightedAdapter>& adapters, const std::string& target, const CancelFlag& cancel);

/// The adapters' update of a weight at a target, [rows, cols] in fp32. Throws as read_weight.
std::vector<float> read_delta(Pool& pool, const Weight& weight, const std::string& name,
                              const std::vector<WeightedAdapter>& adapters, const std::string& target);

}  // namespace lowrank
