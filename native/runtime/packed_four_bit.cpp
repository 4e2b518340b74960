// NF4 weights that bitsandbytes quantised: codes and scales go from the file into ours, and out again, without being
// quantised anew. Only the order of the nibbles inside a block changes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "os/file.h"
#include "quant/half.h"
#include "quant/four_bit.h"
#include "quant/four_bit_packing.h"
#include "runtime/weights.h"

namespace lowrank {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 44;  // keeps every product below within 64 bits
constexpr int64_t kGrain = int64_t{1} << 8;          // blocks that one thread takes at a time

template <class... What>
[[noreturn]] void refuse(const TensorSource& tensor, const What&... what) {
  fail("FILE_FORMAT", "Tensor ", tensor.name, " in ", tensor.file, " ", what...);
}

void expect_bytes(const TensorSource& tensor, const char* part, int64_t bytes, int64_t expected) {
  if (bytes != expected)
    refuse(tensor, "takes ", bytes, " bytes of ", part, ", but NF4 [", tensor.rows, ", ", tensor.cols, "] takes ",
           expected, ".");
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
      refuse(tensor, "has the scale ", values[i], " for block ", i, "; the file is damaged.");
  }
}

void read_codes(Pool& pool, const TensorSource& tensor, const LoadOptions& options, uint8_t* codes) {
  const int64_t elements = tensor.rows * tensor.cols;
  const os::File file(tensor.file);
  expect_in_file(tensor, file, tensor.offset, tensor.bytes);
  const int64_t blocks_at_once = std::max<int64_t>(1, options.chunk_elements * 8 / kCodeBlock);
  const Block packed(Category::workspace, std::min(tensor.bytes, blocks_at_once * kCodeBlock / 2));
  for (int64_t first = 0; first < code_blocks(elements); first += blocks_at_once) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed))
      fail("ABORTED", "Loading ", tensor.name, " from ", tensor.file, " was cancelled.");
    const int64_t count = std::min(blocks_at_once * kCodeBlock, elements - first * kCodeBlock);
    const int64_t offset = tensor.offset + first * kCodeBlock / 2;
    file.read(packed.data(), packed_code_bytes(count), offset);
    if (options.drop_pages) file.drop(offset, packed_code_bytes(count));
    pool.for_range(code_blocks(count), kGrain, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * kCodeBlock;
      unpack_codes(packed.data<uint8_t>() + at / 2, std::min(count, end * kCodeBlock) - at,
                   zero_code(FourBit::nf4), codes + (first + begin) * kCodeBlock / 2);
    });
  }
}

Weight decoded(Pool& pool, const Weight& packed, StorageFormat format) {
  Weight weight(format, packed.rows(), packed.cols());
  const WeightView view = packed.view();
  const int64_t cols = packed.cols();
  pool.for_range(packed.rows(), std::max<int64_t>(1, kGrain * kCodeBlock / cols), [&](int64_t begin, int64_t end) {
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

}  // namespace

Weight load_packed_nf4(Pool& pool, const TensorSource& source, StorageFormat format, const LoadOptions& options) {
  const bool nested = source.dtype == SourceDtype::nf4_double;
  const StorageFormat kept = nested ? StorageFormat::nf4_double : StorageFormat::nf4;
  const bool decodes = format == StorageFormat::f32 || format == StorageFormat::bf16;
  if (format != kept && !decodes)
    fail("UNSUPPORTED", "Tensor ", source.name, " in ", source.file, " is ", name_of(source.dtype), " and stays so; ",
         name_of(format), " would quantise it a second time.");
  if (source.rows <= 0 || source.cols <= 0 || source.rows > kMostElements / source.cols)
    refuse(source, "has the shape [", source.rows, ", ", source.cols,
           "]; expected positive sizes and at most 2^44 elements.");
  const int64_t elements = source.rows * source.cols;
  const int64_t blocks = code_blocks(elements);
  expect_bytes(source, "codes", source.bytes, packed_code_bytes(elements));
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
  read_codes(pool, source, options, static_cast<uint8_t*>(weight.data()));
  return decodes ? decoded(pool, weight, format) : std::move(weight);
}

PackedNf4 pack_nf4(Pool& pool, const Weight& weight) {
  const bool nested = weight.format() == StorageFormat::nf4_double;
  if (!nested && weight.format() != StorageFormat::nf4)
    fail("CONFIG", "the weight is held as ", name_of(weight.format()), ", not as NF4");
  const int64_t elements = weight.rows() * weight.cols();
  const int64_t blocks = code_blocks(elements);
  PackedNf4 packed;
  packed.codes.resize(static_cast<size_t>(packed_code_bytes(elements)));
  pool.for_range(blocks, kGrain, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * kCodeBlock;
    pack_codes(static_cast<const uint8_t*>(weight.data()) + at / 2, std::min(elements, end * kCodeBlock) - at,
                        packed.codes.data() + at / 2);
  });
  const auto* scales = nested ? weight.absmax_codes() : reinterpret_cast<const uint8_t*>(weight.absmax());
  packed.absmax.assign(scales, scales + (nested ? blocks : blocks * 4));
  if (nested) {
    packed.nested_absmax.assign(weight.nested_absmax(), weight.nested_absmax() + nested_blocks(blocks));
    packed.absmax_offset = weight.absmax_offset();
  }
  return packed;
}

}  // namespace lowrank
