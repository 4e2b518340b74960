// Frozen weights: a matrix in one of the storage formats, in its own memory or in a mapped file, and the loader that
// fills it from a model file. The loader reads a few MiB at a time, converts or quantizes them, and releases the
// source's pages, so a full-precision copy of a tensor exists only if that is the storage format.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/boundary.h"
#include "core/memory.h"
#include "core/pool.h"
#include "os/mapped_file.h"
#include "quant/weight.h"
#include "weights/head_order.h"

namespace lowrank {

/// The most elements of a tensor, so that products with them stay within 64 bits.
inline constexpr int64_t kMostElements = int64_t{1} << 44;
/// Elements that one thread converts or quantizes at a time.
inline constexpr int64_t kElementsAtATime = int64_t{1} << 14;

/// True if tensors are stored as codes with separate scales.
constexpr bool is_packed(SourceDtype dtype) { return dtype >= SourceDtype::nf4; }

/// The block type of a GGUF tensor; none if it has no blocks.
constexpr std::optional<GgmlType> ggml_of(SourceDtype dtype) {
  if (dtype < SourceDtype::q8_0 || dtype > SourceDtype::iq4_xs) return std::nullopt;
  return static_cast<GgmlType>(static_cast<int>(dtype) - static_cast<int>(SourceDtype::q8_0));
}

/// A byte range in a file.
struct FileSpan {
  std::string file;
  int64_t offset = 0;
  int64_t bytes = 0;
};

/// Location of a tensor: `bytes` bytes at `offset` of `file`, row-major [rows, cols]. A vector has one row.
struct TensorSource {
  std::string name;
  std::string file;
  int64_t offset = 0;
  int64_t bytes = 0;
  SourceDtype dtype = SourceDtype::f32;
  int64_t rows = 0;
  int64_t cols = 0;
  /// GGUF files of the llama architecture permute the rows of query and key projections within each head: the number of
  /// heads (key-value heads for keys) undoes this while reading; 0 keeps the order. For a vector (a bias) it applies to
  /// elements.
  int64_t permuted_heads = 0;
  /// Order of value heads, which is undone while reading. For a vector it applies to elements.
  HeadOrder head_order = {};
  /// True for a vector of -exp(value), which becomes the values while reading.
  bool negated_exp = false;
  /// nf4, fp4, int8, and the doubles, whose bytes are codes as packed by bitsandbytes: the absmax values, fp32 [blocks]
  /// (int8: [rows]) or, for the doubles, codes [blocks] with nested scales, fp32 [nested blocks], and the mean.
  FileSpan absmax = {};
  FileSpan nested_absmax = {};
  float absmax_offset = 0;
  /// Value added to every element of a vector in the file, which is subtracted while reading.
  float shift = 0;
};

/// True if weights are stored as blocks of a GGUF file.
constexpr bool is_blocks(StorageFormat format) { return format >= StorageFormat::q8_0; }
constexpr GgmlType ggml_of(StorageFormat format) {
  return static_cast<GgmlType>(static_cast<int>(format) - static_cast<int>(StorageFormat::q8_0));
}
/// True if weights are stored as codes with separate scales.
constexpr bool is_quantized(StorageFormat format) { return format >= StorageFormat::nf4 && !is_blocks(format); }
/// True if the absmax values are also codes.
constexpr bool is_double(StorageFormat format) {
  return format == StorageFormat::nf4_double || format == StorageFormat::fp4_double;
}
/// The same format with absmax values that are not codes.
constexpr StorageFormat simple_of(StorageFormat format) {
  return is_double(format) ? static_cast<StorageFormat>(static_cast<int>(format) - 1) : format;
}
/// Code table of a 4-bit format.
constexpr FourBit four_bit_of(StorageFormat format) {
  return format == StorageFormat::nf4 || format == StorageFormat::nf4_double ? FourBit::nf4 : FourBit::fp4;
}

/// Bytes of a weight of this shape: elements, codes, or blocks (Category::weights).
int64_t weight_bytes(StorageFormat format, int64_t rows, int64_t cols);
/// Offset of row `row`; for 4-bit codes, that of the block containing its start.
int64_t row_offset(StorageFormat format, int64_t row, int64_t cols);
/// Bytes of its absmax values (Category::quantization_constants); 0 unless it is quantized.
int64_t constants_bytes(StorageFormat format, int64_t rows, int64_t cols);

/// Bytes of a weight stored elsewhere, such as in a mapped file: weight_bytes at `elements` and, if any,
/// constants_bytes at `constants`, both aligned to 4 bytes (blocks: any alignment), valid as long as `owner` lives.
/// Without `constants`, these are in the weight's own memory.
struct WeightBytes {
  const void* elements = nullptr;
  const void* constants = nullptr;
  float absmax_offset = 0;
  std::shared_ptr<const void> owner;
  int64_t head_rows = 0;  // see WeightView
};

/// One weight, in its own memory (exactly weight_bytes and constants_bytes, zero-initialized) or stored elsewhere and
/// then read-only.
class Weight {
 public:
  Weight() = default;
  Weight(StorageFormat format, int64_t rows, int64_t cols);
  Weight(StorageFormat format, int64_t rows, int64_t cols, const WeightBytes& bytes);

  StorageFormat format() const { return format_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  explicit operator bool() const { return static_cast<bool>(elements_); }

  /// Valid as long as this object, and across moves of it.
  WeightView view() const;

  /// Elements, or codes in the order of quant/weight.h.
  void* data() const { return elements_.data(); }
  /// All absmax values as stored; null unless the weight is quantized.
  void* constants() const { return constants_.data(); }
  /// nf4, fp4: one fp32 per block. int8: one per row. Else null.
  float* absmax() const;
  /// nf4_double, fp4_double: one code per block, one fp32 per 256 blocks, and the mean. Otherwise null and 0.
  uint8_t* absmax_codes() const;
  float* nested_absmax() const;
  float absmax_offset() const { return absmax_offset_; }
  void set_absmax_offset(float offset) { absmax_offset_ = offset; }

 private:
  StorageFormat format_ = StorageFormat::f32;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  Block elements_;
  Block constants_;  // absmax; or nested_absmax followed by absmax_codes
  float absmax_offset_ = 0;
  int64_t head_rows_ = 0;
};

struct LoadOptions {
  /// Set by another thread to cancel: the load ends with Error("ABORTED") at the next chunk.
  const std::atomic<bool>* cancel = nullptr;
  /// Elements converted at a time (at least one row, or one head if rows are permuted).
  int64_t chunk_elements = int64_t{1} << 19;
  /// Release the file's pages as they are read.
  bool drop_pages = true;
  /// Index of the first row in its tensor, for messages.
  int64_t first_row = 0;
};

/// Reads a tensor into `format`. The result does not depend on the number of threads or the chunk size. Throws Error:
/// "FILE_FORMAT" if the file is missing, shorter than its header says, or has values that codes cannot represent (NaN,
/// infinity), or if bytes and shape disagree; "UNSUPPORTED" for f16 storage of anything but an f16 tensor (it would
/// overflow or lose bits), and for blocks of another format; "ABORTED"; "OUT_OF_MEMORY".
Weight load_weight(Pool& pool, const TensorSource& source, StorageFormat format, const LoadOptions& options = {});

/// The same for weights quantized in their file (nf4, fp4, int8, and the doubles): unchanged in the format of that
/// name, and decoded for f32 and bf16.
Weight load_packed(Pool& pool, const TensorSource& source, StorageFormat format, const LoadOptions& options = {});

/// A tensor of blocks in place in its file, `mapped`: nothing is read, and the view handles the row order. Throws
/// Error("FILE_FORMAT") as load_weight, and "UNSUPPORTED" if `format` is not that of its blocks.
Weight map_weight(const TensorSource& source, StorageFormat format, std::shared_ptr<const os::MappedFile> mapped);

/// The inverse of loading; throws Error("CONFIG") when the weight is not quantized.
PackedWeight pack_weight(Pool& pool, const Weight& weight);

/// A limit of `paged_weights` as it is written in a config, rounded up.
std::string mebibytes(int64_t bytes);

}  // namespace lowrank
