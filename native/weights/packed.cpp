// Weights that bitsandbytes quantized: codes and scales go from the file into ours, and out again, without being
// quantized anew. Only the order of the nibbles inside a block of 4-bit codes changes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "os/file.h"
#include "quant/four_bit.h"
#include "quant/four_bit_packing.h"
#include "quant/half.h"
#include "weights/weights.h"

namespace lowrank {
namespace {

constexpr int64_t kBlocks = int64_t{1} << 8;  // that one thread takes at a time

template <class... What>
[[noreturn]] void refuse(const TensorSource& tensor, const What&... what) {
  fail("FILE_FORMAT", "Tensor ", tensor.name, " in ", tensor.file, " ", what...);
}

void expect_bytes(const TensorSource& tensor, const char* part, int64_t bytes, int64_t expected) {
  if (bytes != expected)
    refuse(tensor, "takes ", bytes, " bytes of ", part, ", but ", name_of(tensor.dtype), " [", tensor.rows, ", ",
           tensor.cols, "] takes ", expected, ".");
}

void expect_in_file(const TensorSource& tensor, const os::File& file, int64_t offset, int64_t bytes) {
  const int64_t size = file.size();
  if (offset < 0 || offset > size || size - offset < bytes)
    refuse(tensor, "should have ", bytes, " bytes at offset ", offset, " of ", file.path(), ", which has ", size,
           " bytes. It is truncated or was replaced; download it again.");
}

void read_span(const TensorSource& tensor, const FileSpan& span, void* out) {
  const os::File file(span.file);
  expect_in_file(tensor, file, span.offset, span.bytes);
  file.read(out, span.bytes, span.offset);
}

void expect_scales(const TensorSource& tensor, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    // A scale is the largest of some magnitudes.
    if (!(values[i] >= 0) || std::isinf(values[i]))
      refuse(tensor, "has the scale ", values[i], " for ", tensor.dtype == SourceDtype::int8 ? "row " : "block ", i,
             "; the file is damaged.");
  }
}

/// body(first byte, bytes) for one piece of the codes after the other; pieces hold whole blocks.
template <class Body>
void for_pieces(const TensorSource& tensor, const os::File& file, int64_t bytes_at_once, const LoadOptions& options,
                Body&& body) {
  for (int64_t first = 0; first < tensor.bytes; first += bytes_at_once) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed))
      fail("ABORTED", "Loading ", tensor.name, " from ", tensor.file, " was canceled.");
    const int64_t bytes = std::min(bytes_at_once, tensor.bytes - first);
    body(first, bytes);
    if (options.drop_pages) file.drop(tensor.offset + first, bytes);
  }
}

void read_codes(Pool& pool, const TensorSource& tensor, StorageFormat format, const LoadOptions& options,
                uint8_t* codes) {
  const os::File file(tensor.file);
  expect_in_file(tensor, file, tensor.offset, tensor.bytes);
  const int64_t at_once = std::max<int64_t>(1, options.chunk_elements * 8 / kCodeBlock) * kCodeBlock / 2;
  if (format == StorageFormat::int8) {
    for_pieces(tensor, file, at_once, options,
               [&](int64_t first, int64_t bytes) { file.read(codes + first, bytes, tensor.offset + first); });
    return;
  }
  const int64_t elements = tensor.rows * tensor.cols;
  const Block packed(Category::workspace, std::min(tensor.bytes, at_once));
  for_pieces(tensor, file, at_once, options, [&](int64_t first, int64_t bytes) {
    file.read(packed.data(), bytes, tensor.offset + first);
    const int64_t count = std::min(2 * bytes, elements - 2 * first);
    pool.for_range(code_blocks(count), kBlocks, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * kCodeBlock;
      unpack_codes(packed.data<uint8_t>() + at / 2, std::min(count, end * kCodeBlock) - at,
                   zero_code(four_bit_of(format)), codes + first + at / 2);
    });
  });
}

Weight decoded(Pool& pool, const Weight& packed, StorageFormat format) {
  Weight weight(format, packed.rows(), packed.cols());
  const WeightView view = packed.view();
  const int64_t cols = packed.cols();
  pool.for_range(packed.rows(), std::max<int64_t>(1, kBlocks * kCodeBlock / cols), [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = begin; r < end; ++r) {
      decode_row(view, r, 0, cols, row.data());
      if (format == StorageFormat::f32)
        std::memcpy(static_cast<float*>(weight.data()) + r * cols, row.data(), static_cast<size_t>(cols) * 4);
      else
        encode_bf16(row.data(), cols, static_cast<uint16_t*>(weight.data()) + r * cols);
    }
  });
  return weight;
}

StorageFormat packed_format(SourceDtype dtype) {
  switch (dtype) {
    case SourceDtype::nf4:
      return StorageFormat::nf4;
    case SourceDtype::nf4_double:
      return StorageFormat::nf4_double;
    case SourceDtype::fp4:
      return StorageFormat::fp4;
    case SourceDtype::fp4_double:
      return StorageFormat::fp4_double;
    case SourceDtype::int8:
      return StorageFormat::int8;
    default:
      fail("INTERNAL", name_of(dtype), " is not a quantized format");
  }
}

}  // namespace

Weight load_packed(Pool& pool, const TensorSource& source, StorageFormat format, const LoadOptions& options) {
  const StorageFormat kept = packed_format(source.dtype);
  const bool nested = is_double(kept), int8 = kept == StorageFormat::int8;
  const bool decodes = format == StorageFormat::f32 || format == StorageFormat::bf16;
  if (format != kept && !decodes)
    fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file, " is ", name_of(source.dtype), " already; ",
         name_of(format), " would quantize it a second time.");
  if (source.rows <= 0 || source.cols <= 0 || source.rows > kMostElements / source.cols)
    refuse(source, "has the shape [", source.rows, ", ", source.cols,
           "]; expected positive sizes and at most 2^44 elements.");
  const int64_t elements = source.rows * source.cols;
  const int64_t blocks = int8 ? source.rows : code_blocks(elements);
  expect_bytes(source, "codes", source.bytes, int8 ? elements : packed_code_bytes(elements));
  expect_bytes(source, "absmax", source.absmax.bytes, nested ? blocks : blocks * 4);
  if (nested) expect_bytes(source, "nested absmax", source.nested_absmax.bytes, nested_blocks(blocks) * 4);
  if (!std::isfinite(source.absmax_offset)) refuse(source, "has the mean scale ", source.absmax_offset, ".");

  Weight weight(kept, source.rows, source.cols);
  if (nested) {
    read_span(source, source.absmax, weight.absmax_codes());
    read_span(source, source.nested_absmax, weight.nested_absmax());
    expect_scales(source, weight.nested_absmax(), nested_blocks(blocks));
    weight.set_absmax_offset(source.absmax_offset);
  } else {
    read_span(source, source.absmax, weight.absmax());
    expect_scales(source, weight.absmax(), blocks);
  }
  read_codes(pool, source, kept, options, static_cast<uint8_t*>(weight.data()));
  return decodes ? decoded(pool, weight, format) : std::move(weight);
}

PackedWeight pack_weight(Pool& pool, const Weight& weight) {
  if (!is_quantized(weight.format()))
    fail("CONFIG", "the weight is stored as ", name_of(weight.format()), ", not as codes");
  const bool nested = is_double(weight.format()), int8 = weight.format() == StorageFormat::int8;
  const int64_t elements = weight.rows() * weight.cols();
  const int64_t blocks = int8 ? weight.rows() : code_blocks(elements);
  const auto* codes = static_cast<const uint8_t*>(weight.data());
  PackedWeight packed;
  if (int8) {
    packed.codes.assign(codes, codes + elements);
  } else {
    packed.codes.resize(static_cast<size_t>(packed_code_bytes(elements)));
    pool.for_range(blocks, kBlocks, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * kCodeBlock;
      pack_codes(codes + at / 2, std::min(elements, end * kCodeBlock) - at, packed.codes.data() + at / 2);
    });
  }
  const auto* scales = nested ? weight.absmax_codes() : reinterpret_cast<const uint8_t*>(weight.absmax());
  packed.absmax.assign(scales, scales + (nested ? blocks : blocks * 4));
  if (nested) {
    const auto* nested_scales = reinterpret_cast<const uint8_t*>(weight.nested_absmax());
    packed.nested_absmax.assign(nested_scales, nested_scales + nested_blocks(blocks) * 4);
    packed.absmax_offset = weight.absmax_offset();
  }
  return packed;
}

}  // namespace lowrank
