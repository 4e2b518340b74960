// Streams a tensor from its file into a weight. Rows are read in chunks; a chunk of whole heads where rows have to be
// put back in order, so that every row of a chunk finds its place inside the chunk.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/math.h"
#include "os/file.h"
#include "quant/ggml.h"
#include "quant/half.h"
#include "weights/quantizer.h"
#include "weights/weights.h"

namespace lowrank {
namespace {

constexpr int64_t kReadAhead = int64_t{16} << 20;

void decode_f32(const void* in, int64_t count, float* out) {
  std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
}

/// Layout of the rows of a file's dtype.
const GgmlLayout& format_of(SourceDtype dtype) {
  static constexpr GgmlLayout kElements[] = {
      {"f32", 1, 4, decode_f32}, {"f16", 1, 2, decode_f16}, {"bf16", 1, 2, decode_bf16}};
  static constexpr GgmlLayout kPacked[] = {
      // see packed.cpp
      {"nf4", 2, 1, nullptr},        {"nf4_double", 2, 1, nullptr}, {"fp4", 2, 1, nullptr},
      {"fp4_double", 2, 1, nullptr}, {"int8", 1, 1, nullptr},
  };
  if (const auto blocks = ggml_of(dtype)) return layout_of(*blocks);
  if (is_packed(dtype)) return kPacked[static_cast<int>(dtype) - static_cast<int>(SourceDtype::nf4)];
  return kElements[static_cast<int>(dtype)];
}

int64_t bytes_of(SourceDtype dtype, int64_t elements) { return format_of(dtype).row_bytes(elements); }

/// A vector with permuted elements is treated as a matrix of one column.
TensorSource with_rows(const TensorSource& source) {
  TensorSource tensor = source;
  const bool reordered = tensor.permuted_heads != 0 || (tensor.head_order && !tensor.head_order.columns);
  if (reordered && tensor.rows == 1) std::swap(tensor.rows, tensor.cols);
  return tensor;
}

/// Refuses a tensor that a file of `size` bytes cannot have.
void check(const TensorSource& tensor, int64_t size) {
  const auto refuse = [&](const auto&... what) {
    fail("FILE_FORMAT", "Tensor ", tensor.name, " in ", tensor.file, " ", what...);
  };
  const int64_t rows = tensor.rows;
  const int64_t cols = tensor.cols;
  if (rows <= 0 || cols <= 0 || rows > kMostElements / cols) {
    refuse("has the shape [", rows, ", ", cols, "]; expected positive sizes and at most 2^44 elements.");
  }
  const int64_t block = format_of(tensor.dtype).elements;
  if (cols % block != 0) {
    refuse("has rows of ", cols, " elements, but ", name_of(tensor.dtype), " has blocks of ", block, ".");
  }
  const int64_t expected = rows * bytes_of(tensor.dtype, cols);
  if (tensor.bytes != expected) {
    refuse("takes ", tensor.bytes, " bytes, but ", name_of(tensor.dtype), " [", rows, ", ", cols, "] takes ", expected,
           ".");
  }
  const int64_t heads = tensor.permuted_heads;
  if (heads < 0 || (heads > 0 && (rows % heads != 0 || rows / heads % 2 != 0))) {
    refuse("has ", rows, " rows, which cannot be divided into ", heads, " heads of an even number of rows.");
  }
  const HeadOrder& order = tensor.head_order;
  const int64_t extent = order.columns ? cols : rows;
  if (order && (order.key_heads <= 0 || order.heads % order.key_heads != 0 || order.size <= 0 || order.first < 0 ||
                order.first > extent || order.heads > (extent - order.first) / order.size)) {
    refuse("has ", extent, order.columns ? " columns" : " rows", ", too few for ", order.heads, " value heads of ",
           order.size, ".");
  }
  if (tensor.offset < 0 || tensor.offset > size || size - tensor.offset < expected) {
    refuse("should take ", expected, " bytes at offset ", tensor.offset, ", but the file has ", size,
           " bytes. It is truncated or was replaced; download it again.");
  }
}

/// Position of row `row` of the file: inside a head the file alternates between the two halves.
int64_t place_of(int64_t row, int64_t rows_per_head) {
  if (rows_per_head == 0) return row;
  const int64_t in_head = row % rows_per_head;
  return row - in_head + in_head % 2 * (rows_per_head / 2) + in_head / 2;
}

class Loader {
 public:
  Loader(Pool* pool, const TensorSource& source, const LoadOptions& options)
      : pool_(pool), tensor_(with_rows(source)), options_(options), file_(tensor_.file) {
    check(tensor_, file_.size());
    if (tensor_.permuted_heads > 0) rows_per_head_ = tensor_.rows / tensor_.permuted_heads;
    const int64_t unit = std::max<int64_t>(1, rows_per_head_);
    const int64_t units = std::max<int64_t>(1, options.chunk_elements / tensor_.cols / unit);
    chunk_rows_ = std::min(tensor_.rows, units * unit);
    row_bytes_ = bytes_of(tensor_.dtype, tensor_.cols);
    const HeadOrder& order = tensor_.head_order;
    const int64_t block = format_of(tensor_.dtype).elements;
    moves_blocks_ = order.columns && order.first % block == 0 && order.size % block == 0;
  }

  /// False if heads begin within blocks, which then cannot be reordered.
  bool keeps_elements() const { return !tensor_.head_order.columns || moves_blocks_; }

  void to_f32(float* out) {
    for_chunks([&](int64_t first, int64_t rows) { decode_chunk(first, rows, out + first * tensor_.cols); });
  }

  /// For storage with the file's own element type: only the order of rows changes.
  void copy(uint8_t* out) {
    if (rows_per_head_ == 0) {
      for_each_range([&](int64_t first, int64_t rows) { read(first, rows, out + first * row_bytes_); });
      return;
    }
    for_chunks([&](int64_t first, int64_t rows) {
      for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(out + place_of(first + r, rows_per_head_) * row_bytes_, raw_.data<uint8_t>() + r * row_bytes_,
                    static_cast<size_t>(row_bytes_));
      }
    });
  }

  void to_bf16(uint16_t* out) {
    const Block values(Category::workspace, chunk_rows_ * tensor_.cols * 4);
    for_chunks([&](int64_t first, int64_t rows) {
      decode_chunk(first, rows, values.data<float>());
      parallel(rows * tensor_.cols, kElementsAtATime, [&](int64_t begin, int64_t end) {
        encode_bf16(values.data<float>() + begin, end - begin, out + first * tensor_.cols + begin);
      });
    });
  }

  void quantize(Weight& weight) {
    Quantizer quantizer(*pool_, weight, chunk_rows_);
    for_chunks([&](int64_t first, int64_t rows) {
      decode_chunk(first, rows, quantizer.rows());
      if (const auto bad = quantizer.take(rows)) refuse(*bad);
    });
    quantizer.finish();
  }

 private:
  [[noreturn]] void refuse(const Quantizer::Bad& bad) const {
    fail("FILE_FORMAT", "Tensor ", tensor_.name, " in ", tensor_.file, " holds ", bad.value, " at row ",
         options_.first_row + bad.at / tensor_.cols, ", column ", bad.at % tensor_.cols,
         "; only finite numbers can be quantized. The file is damaged, or the model must "
         "be loaded without quantization.");
  }

  template <class Body>
  void parallel(int64_t count, int64_t grain, Body&& body) {
    if (pool_ == nullptr) {
      body(int64_t{0}, count);
    } else {
      pool_->for_range(count, grain, body);
    }
  }

  /// body(first_row, rows) for one chunk after the other.
  template <class Body>
  void for_each_range(Body&& body) {
    for (int64_t first = 0; first < tensor_.rows; first += chunk_rows_) {
      if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
        fail("ABORTED", "Loading ", tensor_.name, " from ", tensor_.file, " was canceled.");
      }
      body(first, std::min(chunk_rows_, tensor_.rows - first));
    }
  }

  /// The same with the chunk's bytes in raw_.
  template <class Body>
  void for_chunks(Body&& body) {
    raw_ = Block(Category::workspace, chunk_rows_ * row_bytes_);
    for_each_range([&](int64_t first, int64_t rows) {
      read(first, rows, raw_.data<uint8_t>());
      body(first, rows);
    });
  }

  /// Reads rows with value heads in the model's order.
  void read(int64_t first, int64_t rows, uint8_t* out) {
    const HeadOrder& order = tensor_.head_order;
    if (!order || order.columns) {
      read_run(first, rows, out);
      if (moves_blocks_)
        for (int64_t r = 0; r < rows; ++r)
          order.to_model(out + r * row_bytes_, in_bytes(order.first), in_bytes(order.size));
      return;
    }
    for (int64_t done = 0; done < rows;) {
      const int64_t row = first + done;
      const int64_t until = row < order.first ? order.first : row - (row - order.first) % order.size + order.size;
      const int64_t run = row >= order.end() ? rows - done : std::min(rows - done, until - row);
      read_run(order.in_file(row), run, out + done * row_bytes_);
      done += run;
    }
  }

  int64_t in_bytes(int64_t elements) const { return bytes_of(tensor_.dtype, elements); }

  void read_run(int64_t first, int64_t rows, uint8_t* out) {
    const int64_t offset = tensor_.offset + first * row_bytes_;
    const int64_t bytes = rows * row_bytes_;
    try {
      file_.read(out, bytes, offset);
    } catch (const Error& error) {
      fail(error.code(), "Tensor ", tensor_.name, ": ", error.what());
    }
    if (options_.drop_pages) file_.drop(offset, bytes);
    // The next chunks come from the disk while this one is converted.
    const int64_t rest = tensor_.offset + tensor_.bytes - (offset + bytes);
    if (rest > 0 && offset + bytes >= read_ahead_) {
      file_.will_need(offset + bytes, std::min(rest, kReadAhead));
      read_ahead_ = offset + bytes + kReadAhead / 2;
    }
  }

  /// Decodes the chunk in raw_ to `out` [rows, cols], every row at its place.
  void decode_chunk(int64_t first, int64_t rows, float* out) {
    const int64_t cols = tensor_.cols;
    parallel(rows, std::max<int64_t>(1, kElementsAtATime / cols), [&](int64_t begin, int64_t end) {
      const uint8_t* raw = raw_.data<uint8_t>();
      const HeadOrder& order = tensor_.head_order;
      if (rows_per_head_ == 0) {
        format_of(tensor_.dtype).decode(raw + begin * row_bytes_, (end - begin) * cols, out + begin * cols);
        if (!order.columns || moves_blocks_) return;
        for (int64_t r = begin; r < end; ++r)
          order.to_model(reinterpret_cast<uint8_t*>(out + r * cols), order.first * 4, order.size * 4);
        return;
      }
      for (int64_t r = begin; r < end; ++r) {
        format_of(tensor_.dtype)
            .decode(raw + r * row_bytes_, cols, out + (place_of(first + r, rows_per_head_) - first) * cols);
      }
    });
  }

  Pool* pool_;  // null: this thread alone
  TensorSource tensor_;
  LoadOptions options_;
  os::File file_;
  int64_t rows_per_head_ = 0;  // 0: rows are in order
  int64_t chunk_rows_ = 0;
  int64_t row_bytes_ = 0;
  int64_t read_ahead_ = 0;
  bool moves_blocks_ = false;  // columns are reordered in the bytes of the file
  Block raw_;
};

bool same_elements(SourceDtype dtype, StorageFormat format) {
  return (dtype == SourceDtype::f32 && format == StorageFormat::f32) ||
         (dtype == SourceDtype::bf16 && format == StorageFormat::bf16) ||
         (dtype == SourceDtype::f16 && format == StorageFormat::f16) || is_blocks(format);
}

/// Refuses to hold a tensor as other blocks than its own.
void check_blocks(const TensorSource& source, StorageFormat format) {
  if (is_blocks(format) && ggml_of(source.dtype) == ggml_of(format)) return;
  fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file, " is ", name_of(source.dtype),
       ", so it cannot be kept as ", name_of(format), ".");
}

bool is_transformed(const TensorSource& source) { return source.shift != 0 || source.negated_exp; }

/// Undoes what was done to the elements of a vector in the file.
Weight restored(Weight weight, const TensorSource& source) {
  if (!is_transformed(source)) return weight;
  float* values = static_cast<float*>(weight.data());
  for (int64_t i = 0; i < weight.cols(); ++i) {
    if (source.negated_exp && !(values[i] < 0))
      fail("FILE_FORMAT", "Tensor ", source.name, " in ", source.file, " holds ", values[i], " at ", i,
           "; expected numbers below zero.");
    values[i] = source.negated_exp ? static_cast<float>(math::log(-values[i])) : values[i] - source.shift;
  }
  return weight;
}

}  // namespace

Weight load_weight(Pool& pool, const TensorSource& source, StorageFormat format, const LoadOptions& options) {
  if (format == StorageFormat::f16 && source.dtype != SourceDtype::f16) {
    fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file, " is ", name_of(source.dtype),
         "; f16 could overflow or lose bits. Store it as bf16 or f32.");
  }
  if (is_blocks(format)) check_blocks(source, format);
  if (is_packed(source.dtype)) return load_packed(pool, source, format, options);
  Loader loader(&pool, source, options);
  Weight weight(format, source.rows, source.cols);
  if (is_transformed(source) && (format != StorageFormat::f32 || source.rows != 1))
    fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file,
         " has a transformation of its elements, which only vectors in fp32 can have.");
  if (is_blocks(format) && !loader.keeps_elements())
    fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file, " has heads of ", source.head_order.size,
         " columns in another order, which cannot be changed within the blocks of ", name_of(format), ".");
  if (same_elements(source.dtype, format)) {
    loader.copy(static_cast<uint8_t*>(weight.data()));
    return restored(std::move(weight), source);
  }
  switch (format) {
    case StorageFormat::f32:
      loader.to_f32(static_cast<float*>(weight.data()));
      break;
    case StorageFormat::bf16:
      loader.to_bf16(static_cast<uint16_t*>(weight.data()));
      break;
    case StorageFormat::f16:
      break;  // an f16 tensor: copied above
    default:
      loader.quantize(weight);
  }
  return restored(std::move(weight), source);
}

Weight map_weight(const TensorSource& source, StorageFormat format, std::shared_ptr<const os::MappedFile> mapped) {
  check_blocks(source, format);
  check(source, mapped->bytes());
  WeightBytes bytes{mapped->data() + source.offset, nullptr, 0, nullptr, 0};
  if (source.permuted_heads > 0) bytes.head_rows = source.rows / source.permuted_heads;
  bytes.owner = std::move(mapped);
  return {format, source.rows, source.cols, bytes};
}

}  // namespace lowrank
