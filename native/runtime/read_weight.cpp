#include "runtime/read_weight.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "adapters/hadamard.h"
#include "adapters/kronecker.h"
#include "adapters/snapshot.h"
#include "backends/cpu/adapters.h"
#include "backends/cpu/device.h"
#include "core/error.h"
#include "quant/ggml.h"
#include "quant/half.h"
#include "runtime/quantizer.h"

namespace lowrank {
namespace {

/// What one adapter adds: folded B [rows, rank] times A [rank, cols]. With a magnitude m it puts (W + B A) m / ||W + B A||
/// in place of W, row by row, of which `counts` is what the difference counts for.
struct Delta {
  std::vector<float> b;
  std::vector<float> built_a;  // of a pair of products
  const float* a;
  int64_t rank;
  int64_t ld;  // elements from row to row of A
  float counts = 1;  // in b already, unless there is a magnitude
  const float* magnitude = nullptr;
};

/// The same of a Kronecker product.
struct KroneckerDelta {
  KroneckerRows rows;
  float weight;
};

struct Deltas {
  std::vector<Delta> low_rank;
  std::vector<KroneckerDelta> kroneckers;

  bool empty() const { return low_rank.empty() && kroneckers.empty(); }
};

/// Row `id` of an embedding gets A[:, id]^T (scale B)^T: A transposed takes B's place, and B that of A.
Delta embedding_delta(const Adapter& adapter, const LowRankSlot& slot, int64_t rank, float counts) {
  const ParameterSpec &a = adapter.spec().parameters[slot.a], &b = adapter.spec().parameters[slot.b];
  std::vector<float> folded(b.rows * rank), columns(a.cols * rank), rows(rank * b.rows);
  fold(adapter, slot, rank, 0, b.rows, folded.data(), counts);
  for (int64_t j = 0; j < rank; ++j) {
    for (int64_t id = 0; id < a.cols; ++id) columns[id * rank + j] = adapter.data(slot.a)[j * a.cols + id];
    for (int64_t i = 0; i < b.rows; ++i) rows[j * b.rows + i] = folded[i * rank + j];
  }
  Delta delta{std::move(columns), std::move(rows), nullptr, rank, b.rows};
  delta.a = delta.built_a.data();
  return delta;
}

Deltas deltas_of(const Weight& weight, const std::string& name,
                             const std::vector<WeightedAdapter>& adapters, const std::string& target) {
  Deltas deltas;
  for (const auto& [adapter, counts, wanted] : adapters) {
    const AdapterSpec& spec = adapter->spec();
    for (const KroneckerSlot& slot : spec.kroneckers) {
      if (slot.target != target) continue;
      const cpu::KroneckerShape shape = kronecker_shape(spec, slot);
      if (shape.out() != weight.rows() || shape.in() != weight.cols())
        fail("SHAPE", "adapter at ", target, ": C (x) D is [", shape.out(), ", ", shape.in(), "] but ", name, " is [",
             weight.rows(), ", ", weight.cols(), "]");
      deltas.kroneckers.push_back({KroneckerRows(*adapter, slot), counts});
    }
    for (const LowRankSlot& slot : spec.slots) {
      if (slot.target != target) continue;
      const ParameterSpec &a = spec.parameters[slot.a], &b = spec.parameters[slot.b];
      const auto [out, in] = slot.embedding ? std::pair{weight.cols(), weight.rows()} : std::pair{weight.rows(), weight.cols()};
      if (!fits(spec, slot, out, in))
        fail("SHAPE", "adapter at ", target, ": B A is [", b.rows, ", ", a.cols, "] but ", name, " is [", weight.rows(),
             ", ", weight.cols(), "]");
      const int64_t rank = slot.ranks(wanted);
      if (slot.embedding) {
        deltas.low_rank.push_back(embedding_delta(*adapter, slot, rank, counts));
        continue;
      }
      Delta delta{std::vector<float>(weight.rows() * rank), {}, adapter->data(slot.a), rank, a.cols};
      if (slot.paired()) {
        delta.built_a.resize(slot.rank * a.cols);
        cpu::build_pair_a({pair_of(*adapter, slot), cpu::address_of(delta.built_a.data())}, 0, slot.rank);
        delta.a = delta.built_a.data();
      }
      if (snapshot_ratio(*adapter, slot) != 0) {
        delta.rank = 2 * rank;
        delta.b.resize(weight.rows() * delta.rank);
        for (const int factor : {slot.a, slot.snapshot_a})
          delta.built_a.insert(delta.built_a.end(), adapter->data(factor), adapter->data(factor) + rank * a.cols);
        delta.a = delta.built_a.data();
        fold_snapshot(*adapter, slot, delta.b.data());
      } else {
        fold(*adapter, slot, rank, 0, weight.rows(), delta.b.data());
      }
      if (slot.magnitude >= 0) {
        delta.counts = counts;
        delta.magnitude = adapter->data(slot.magnitude);
      } else {
        for (float& value : delta.b) value *= counts;
      }
      deltas.low_rank.push_back(std::move(delta));
    }
  }
  return deltas;
}

/// The weight as the adapters have it: itself, or the trained copy that stands in for it.
WeightView standing(const Weight& weight, const std::string& name, const std::vector<WeightedAdapter>& adapters) {
  WeightView view = weight.view();
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
      view.data = one.adapter->data(copy.parameter);
    }
  return view;
}

/// sum += the row of B A.
void add_product(const Delta& delta, int64_t row, int64_t cols, float* sum) {
  for (int64_t j = 0; j < delta.rank; ++j) {
    const float factor = delta.b[row * delta.rank + j];
    const float* a = delta.a + j * delta.ld;
    for (int64_t i = 0; i < cols; ++i) sum[i] += factor * a[i];
  }
}

/// What is to be added to a share of a row, which is returned; `own` is room for as many numbers.
float sum_row(const Deltas& deltas, int64_t row, int64_t cols, const float* base, float* sum, float* own) {
  std::fill(sum, sum + cols, 0.0f);
  for (const KroneckerDelta& delta : deltas.kroneckers) delta.rows.add_row(row, delta.weight, sum);
  float rest = 1;  // of the row itself
  for (const Delta& delta : deltas.low_rank) {
    if (delta.magnitude == nullptr) {
      add_product(delta, row, cols, sum);
      continue;
    }
    std::fill(own, own + cols, 0.0f);
    add_product(delta, row, cols, own);
    double square = 0;
    for (int64_t i = 0; i < cols; ++i) {
      own[i] += base[i];
      square += double{own[i]} * own[i];
    }
    const auto gain = static_cast<float>(delta.counts * delta.magnitude[row] / std::sqrt(std::max(square, 1e-30)));
    for (int64_t i = 0; i < cols; ++i) sum[i] += gain * own[i];
    rest -= delta.counts;
  }
  return rest;
}

/// One row in fp32; `sum` and `own` are room for as many numbers.
void merged_row(const WeightView& view, const Deltas& deltas, int64_t row, float* out, float* sum, float* own) {
  decode_row(view, row, 0, view.cols, out);
  if (deltas.empty()) return;
  const float rest = sum_row(deltas, row, view.cols, out, sum, own);
  for (int64_t i = 0; i < view.cols; ++i) out[i] = rest * out[i] + sum[i];
}

/// Whether every number survives: finite, and within the range of the type.
bool fits(const float* row, int64_t cols, FileType type) {
  // From here on f16 rounds to infinity; a block's scale of Q8_0 is its largest number / 127.
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

/// Of rows that are quantized at a time.
constexpr int64_t kChunkElements = int64_t{1} << 19;

Survival survival_of(const float* merged, const float* base, const float* quantized, const float* held, int64_t cols) {
  Survival sums;
  for (int64_t i = 0; i < cols; ++i) {
    const double change = double{merged[i]} - base[i], found = double{quantized[i]} - held[i];
    sums.change += change * change;
    sums.kept += found * change;
    sums.error += (found - change) * (found - change);
  }
  return sums;
}

const char* name_of(FileType type) {
  static constexpr const char* kNames[] = {"f32", "bf16", "f16", "q8_0"};
  return kNames[static_cast<int>(type)];
}

void check(const Weight& weight, const std::string& name, const ReadOptions& options) {
  const int64_t rows = weight.rows(), cols = weight.cols(), heads = options.permuted_heads;
  if (options.begin < 0 || options.count < 0 || options.begin > rows - options.count)
    fail("SHAPE", name, " has ", rows, " rows, not rows ", options.begin, " to ", options.begin + options.count);
  if (options.type == FileType::q8_0 && cols % kGgmlBlock != 0)
    fail("SHAPE", name, " has rows of ", cols, " numbers, which are not whole blocks of Q8_0");
  const int64_t permuted = rows == 1 ? cols : rows;
  if (heads < 0 || (heads > 0 && (permuted % heads != 0 || permuted / heads % 2 != 0)))
    fail("SHAPE", name, " has ", permuted, " rows, which are not ", heads, " heads of an even number of rows");
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
  const Deltas deltas = options.target.empty() ? Deltas{} : deltas_of(weight, name, adapters, options.target);
  const WeightView view = standing(weight, name, adapters);
  const int64_t row_bytes = file_bytes(options.type, view.cols);
  const int64_t heads = options.permuted_heads;
  const bool permutes_elements = heads > 0 && view.rows == 1;
  std::vector<uint8_t> out(static_cast<size_t>(options.count * row_bytes));
  std::atomic<bool> all_fit{true};
  pool.for_range(options.count, 16, [&](int64_t begin, int64_t end) {
    if (cancel && cancel->load(std::memory_order_relaxed)) return;
    std::vector<float> row(view.cols), sum(view.cols), own(view.cols);
    for (int64_t i = begin; i < end; ++i) {
      int64_t from = options.begin + i;
      if (heads > 0 && !permutes_elements) from = permuted_row(from, view.rows / heads);
      merged_row(view, deltas, from, row.data(), sum.data(), own.data());
      if (permutes_elements) {
        for (int64_t k = 0; k < view.cols; ++k) sum[k] = row[permuted_row(k, view.cols / heads)];
        row.swap(sum);
      }
      if (!fits(row.data(), view.cols, options.type)) all_fit = false;
      encode(row.data(), view.cols, options.type, out.data() + i * row_bytes);
    }
  });
  if (cancel && *cancel) fail("ABORTED", "reading ", name, " was canceled");
  if (!all_fit)
    fail("CONFIG", name, " has numbers that are not finite or too large for ", name_of(options.type),
         "; try bf16 or f32, and if those fail too, the adapter or the model is damaged");
  return out;
}

Merged merge_weight(Pool& pool, const Weight& weight, const Weight& held, const std::string& name,
                    const std::vector<WeightedAdapter>& adapters, const std::string& target,
                    const CancelFlag& cancel) {
  const Deltas deltas = deltas_of(weight, name, adapters, target);
  const WeightView view = standing(weight, name, adapters);
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
      std::vector<float> sum(cols), own(cols);
      for (int64_t i = begin; i < end; ++i)
        merged_row(view, deltas, first + i, quantizer.rows() + i * cols, sum.data(), own.data());
    });
    if (quantizer.take(count))
      fail("CONFIG", name, " has numbers that are not finite, which no code can stand for; the adapter or the model is damaged");
  }
  quantizer.finish();
  const WeightView base = weight.view(), without = held.view(), quantized = merged.weight.view();
  std::vector<Survival> by_row(rows);  // added up in order, whatever the number of threads
  pool.for_range(rows, 16, [&](int64_t begin, int64_t end) {
    if (cancel && cancel->load(std::memory_order_relaxed)) return;
    std::vector<float> full(cols), plain(cols), coded(cols), unchanged(cols), own(cols);
    for (int64_t r = begin; r < end; ++r) {
      merged_row(view, deltas, r, full.data(), plain.data(), own.data());
      decode_row(base, r, 0, cols, plain.data());
      decode_row(quantized, r, 0, cols, coded.data());
      decode_row(without, r, 0, cols, unchanged.data());
      by_row[r] = survival_of(full.data(), plain.data(), coded.data(), unchanged.data(), cols);
    }
  });
  give_up();
  for (const Survival& row : by_row) {
    merged.survival.change += row.change;
    merged.survival.kept += row.kept;
    merged.survival.error += row.error;
  }
  return merged;
}

std::vector<float> read_delta(Pool& pool, const Weight& weight, const std::string& name,
                              const std::vector<WeightedAdapter>& adapters, const std::string& target) {
  const Deltas deltas = deltas_of(weight, name, adapters, target);
  const WeightView view = weight.view();
  std::vector<float> out(static_cast<size_t>(view.rows * view.cols));
  pool.for_range(view.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> base(view.cols), own(view.cols);
    for (int64_t row = begin; row < end; ++row) {
      decode_row(view, row, 0, view.cols, base.data());
      float* const sum = out.data() + row * view.cols;
      const float rest = sum_row(deltas, row, view.cols, base.data(), sum, own.data());
      if (rest == 1) continue;
      for (int64_t i = 0; i < view.cols; ++i) sum[i] += (rest - 1) * base[i];
    }
  });
  return out;
}

}  // namespace lowrank
