#include "weights/read_weight.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/math.h"
#include "quant/ggml.h"
#include "quant/half.h"
#include "weights/quantizer.h"

namespace lowrank {
namespace {

/// The weight that adapters see: the base weight, or the trained copy that replaces it.
struct Standing {
  WeightView view;
  HostView<const float> copy = {};
};

Standing standing(const Weight& weight, const std::string& name, const std::vector<WeightedAdapter>& adapters) {
  Standing found{weight.view()};
  WeightView& view = found.view;
  for (const WeightedAdapter& one : adapters)
    for (const WeightCopy& copy : one.adapter->spec().copies) {
      if (copy.weight != name) continue;
      const ParameterSpec& values = one.adapter->spec().parameters[copy.parameter];
      if (values.rows != view.rows || values.cols != view.cols)
        fail("SHAPE", "the copy of ", name, " is [", values.rows, ", ", values.cols, "] but the weight is [", view.rows,
             ", ", view.cols, "]");
      view = {};
      view.rows = values.rows;
      view.cols = view.ld = values.cols;
      found.copy = one.adapter->view(copy.parameter);
      view.data = found.copy.data();
    }
  return found;
}

/// True if every number is representable: finite, and within the range of the type.
bool fits(const float* row, int64_t cols, FileType type) {
  // F16 rounds larger numbers to infinity. The scale of a Q8_0 block is its largest number / 127.
  const float limit = type == FileType::f16 ? 65520.0f : type == FileType::q8_0 ? 65520.0f * 127 : INFINITY;
  const float most = type == FileType::bf16 ? 0x1.ffp127f : limit;  // bf16 rounds up to infinity just below f32's end
  for (int64_t i = 0; i < cols; ++i)
    if (!(std::fabs(row[i]) < most)) return false;
  return true;
}

void encode(const float* row, int64_t cols, FileType type, uint8_t* out) {
  switch (type) {
    case FileType::f32:
      std::memcpy(out, row, static_cast<size_t>(cols) * sizeof(float));
      return;
    case FileType::bf16:
      encode_bf16(row, cols, reinterpret_cast<uint16_t*>(out));
      return;
    case FileType::f16:
      encode_f16(row, cols, reinterpret_cast<uint16_t*>(out));
      return;
    case FileType::q8_0:
      encode_q8_0(row, cols, out);
      return;
  }
}

/// Elements of rows that are quantized at a time.
constexpr int64_t kChunkElements = int64_t{1} << 19;

MergeSums sums_of(const float* merged, const float* base, const float* quantized, const float* held, int64_t cols) {
  MergeSums sums;
  for (int64_t i = 0; i < cols; ++i) {
    const double change = double{merged[i]} - base[i], found = double{quantized[i]} - held[i];
    sums.change += change * change;
    sums.kept += found * change;
    sums.error += (found - change) * (found - change);
  }
  return sums;
}

void check(const Weight& weight, const std::string& name, const ReadOptions& options) {
  const int64_t rows = weight.rows(), cols = weight.cols(), heads = options.permuted_heads;
  if (options.begin < 0 || options.count < 0 || options.begin > rows - options.count)
    fail("SHAPE", name, " has ", rows, " rows; cannot read rows ", options.begin, " to ",
         options.begin + options.count);
  if (options.type == FileType::q8_0 && cols % kGgmlBlock != 0)
    fail("SHAPE", name, " has rows of ", cols, " numbers, which are not a multiple of Q8_0's block");
  const int64_t permuted = rows == 1 ? cols : rows;
  if (heads < 0 || (heads > 0 && (permuted % heads != 0 || permuted / heads % 2 != 0)))
    fail("SHAPE", name, " has ", permuted, " rows, which cannot be divided into ", heads,
         " heads of an even number of rows");
  const int64_t extent = options.head_order.columns ? cols : permuted;
  if (options.head_order && options.head_order.end() > extent)
    fail("SHAPE", name, " has ", extent, " rows or columns; value heads need ", options.head_order.end());
}

}  // namespace

int64_t file_bytes(FileType type, int64_t cols) {
  switch (type) {
    case FileType::f32:
      return cols * 4;
    case FileType::bf16:
    case FileType::f16:
      return cols * 2;
    case FileType::q8_0:
      return cols / kGgmlBlock * kQ8_0Bytes;
  }
  return 0;
}

int64_t permuted_row(int64_t row, int64_t head_rows) {
  const int64_t within = row % head_rows;
  return row - within + within % 2 * (head_rows / 2) + within / 2;
}

std::vector<uint8_t> read_weight(Pool& pool, const Weight& weight, const std::string& name,
                                 const std::vector<WeightedAdapter>& adapters, const ReadOptions& options,
                                 const CancelFlag& cancel) {
  check(weight, name, options);
  const Standing stands = standing(weight, name, adapters);
  const WeightView& view = stands.view;
  const MergedRows merged(view, name, adapters, options.target);
  const int64_t row_bytes = file_bytes(options.type, view.cols);
  const int64_t heads = options.permuted_heads;
  const HeadOrder& order = options.head_order;
  const bool permutes_elements = heads > 0 && view.rows == 1;
  const bool by_rows = order && !order.columns && view.rows > 1;
  std::vector<uint8_t> out(static_cast<size_t>(options.count * row_bytes));
  std::atomic<bool> all_fit{true};
  pool.for_range(options.count, 16, [&](int64_t begin, int64_t end) {
    if (cancel && cancel->load(std::memory_order_relaxed)) return;
    std::vector<float> row(view.cols);
    MergedRows::Room room(view.cols);
    for (int64_t i = begin; i < end; ++i) {
      int64_t from = options.begin + i;
      if (heads > 0 && !permutes_elements) from = permuted_row(from, view.rows / heads);
      if (by_rows) from = order.in_model(from);
      merged.merged(from, row.data(), room);
      if (permutes_elements) {
        for (int64_t k = 0; k < view.cols; ++k) room.sum[k] = row[permuted_row(k, view.cols / heads)];
        row.swap(room.sum);
      }
      if (order && !by_rows) order.to_file(reinterpret_cast<uint8_t*>(row.data()), order.first * 4, order.size * 4);
      if (options.negated_exp)
        for (float& element : row) element = static_cast<float>(-math::exp(element));
      if (options.shift != 0)
        for (float& element : row) element += options.shift;
      if (!fits(row.data(), view.cols, options.type)) all_fit = false;
      encode(row.data(), view.cols, options.type, out.data() + i * row_bytes);
    }
  });
  if (cancel && *cancel) fail("ABORTED", "reading ", name, " was canceled");
  if (!all_fit)
    fail("CONFIG", name, " has values that are not finite or too large for ", name_of(options.type),
         "; try bf16 or f32, and if those fail too, the adapter or the model is damaged");
  return out;
}

Merged merge_weight(Pool& pool, const Weight& weight, const Weight& held, const std::string& name,
                    const std::vector<WeightedAdapter>& adapters, const std::string& target, const CancelFlag& cancel) {
  const Standing stands = standing(weight, name, adapters);
  const WeightView& view = stands.view;
  const MergedRows rows_of_sum(view, name, adapters, target);
  const int64_t rows = view.rows, cols = view.cols;
  const auto give_up = [&] {
    if (cancel && *cancel) fail("ABORTED", "merging ", name, " was canceled");
  };
  Merged merged{Weight(held.format(), rows, cols), {}};
  const int64_t at_once = std::clamp<int64_t>(kChunkElements / cols, 1, rows);
  Quantizer quantizer(pool, merged.weight, at_once);
  for (int64_t first = 0; first < rows; first += at_once) {
    give_up();
    const int64_t count = std::min(at_once, rows - first);
    pool.for_range(count, 16, [&](int64_t begin, int64_t end) {
      MergedRows::Room room(cols);
      for (int64_t i = begin; i < end; ++i) rows_of_sum.merged(first + i, quantizer.rows() + i * cols, room);
    });
    if (quantizer.take(count))
      fail("CONFIG", name,
           " has values that are not finite and cannot be quantized; the adapter or the model is "
           "damaged");
  }
  quantizer.finish();
  const WeightView base = weight.view(), without = held.view(), quantized = merged.weight.view();
  std::vector<MergeSums> by_row(rows);  // added up in order, whatever the number of threads
  pool.for_range(rows, 16, [&](int64_t begin, int64_t end) {
    if (cancel && cancel->load(std::memory_order_relaxed)) return;
    std::vector<float> full(cols), plain(cols), coded(cols), unchanged(cols);
    MergedRows::Room room(cols);
    for (int64_t r = begin; r < end; ++r) {
      rows_of_sum.merged(r, full.data(), room);
      decode_row(base, r, 0, cols, plain.data());
      decode_row(quantized, r, 0, cols, coded.data());
      decode_row(without, r, 0, cols, unchanged.data());
      by_row[r] = sums_of(full.data(), plain.data(), coded.data(), unchanged.data(), cols);
    }
  });
  give_up();
  for (const MergeSums& row : by_row) {
    merged.sums.change += row.change;
    merged.sums.kept += row.kept;
    merged.sums.error += row.error;
  }
  return merged;
}

std::vector<float> read_delta(Pool& pool, const Weight& weight, const std::string& name,
                              const std::vector<WeightedAdapter>& adapters, const std::string& target) {
  const MergedRows rows(weight.view(), name, adapters, target);
  std::vector<float> out(static_cast<size_t>(rows.rows() * rows.cols()));
  pool.for_range(rows.rows(), 16, [&](int64_t begin, int64_t end) {
    MergedRows::Room room(rows.cols());
    for (int64_t row = begin; row < end; ++row) rows.change(row, out.data() + row * rows.cols(), room);
  });
  return out;
}

}  // namespace lowrank
