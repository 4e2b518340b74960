// Weights on their way out: rows of a loaded weight, with what adapters add to them, in a file's element type. What is
// read is what the kernels compute with (quantized weights are dequantized), so a merged file holds what was trained.
#pragma once

#include <string>
#include <vector>

#include "adapters/merge.h"
#include "core/context.h"
#include "core/lists.h"
#include "weights/weights.h"

namespace lowrank {

/// Bytes of `cols` elements; a row of q8_0 must be whole blocks of 32.
int64_t file_bytes(FileType type, int64_t cols);

struct ReadOptions {
  FileType type = FileType::f32;
  int64_t begin = 0;  // first row, in the order that is written
  int64_t count = 0;
  /// Rows are written in the order of GGUF files of the llama architecture, for this many heads; 0 leaves them alone.
  /// See TensorSource::permuted_heads. Of a vector the elements take the place of the rows, and all of it must be read.
  int64_t permuted_heads = 0;
  /// Path of the node whose adapters are added; none when empty.
  std::string target;
  /// Added to every element that is written; see TensorSource::shift.
  float shift = 0;
};

/// Row of the weight that lies at `row` in a GGUF file whose heads have `head_rows` rows.
int64_t permuted_row(int64_t row, int64_t head_rows);

/// Rows of a weight plus scale * B A of every adapter that has a slot at the target, summed in fp32 and rounded once. A
/// slot with a magnitude adds what it makes of the row less the row itself.
/// A copy of the weight that an adapter trains stands in for it.
/// Throws Error: "SHAPE" for rows outside the weight or an adapter that does not fit; "CONFIG" for a number that the type
/// cannot hold or that is not finite; "ABORTED".
std::vector<uint8_t> read_weight(Pool& pool, const Weight& weight, const std::string& name,
                                 const std::vector<WeightedAdapter>& adapters, const ReadOptions& options,
                                 const CancelFlag& cancel);

/// The part of a change that survives quantization: sums over the elements of a matrix, where d is what the adapters
/// change and q what is changed between the quantized weight without them and the one with them.
struct Survival {
  double change = 0;  // |d|^2
  double kept = 0;    // <q, d>
  double error = 0;   // |q - d|^2
};

/// A weight with adapters in it, quantized as another is held, and what is left of them.
struct Merged {
  Weight weight;
  Survival survival;
};

/// Quantizes the rows that `read_weight` would give, in the format of `held`: the same weight as it is held without the
/// adapters. Errors as read_weight.
/// @param weight what the adapters are added to: `held` itself, or the weight that it was quantized from
Merged merge_weight(Pool& pool, const Weight& weight, const Weight& held, const std::string& name,
                    const std::vector<WeightedAdapter>& adapters, const std::string& target, const CancelFlag& cancel);

/// The adapters' change of a weight at a target, [rows, cols] in fp32. Throws as read_weight.
std::vector<float> read_delta(Pool& pool, const Weight& weight, const std::string& name,
                              const std::vector<WeightedAdapter>& adapters, const std::string& target);

}  // namespace lowrank
