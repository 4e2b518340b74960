// Matrix products as plain loops with double sums: what every other level is tested against. Operands are rounded to
// bf16 first when that precision is asked for, so the faster levels differ only by the order and width of their sums.
#include <algorithm>

#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"
#include "backends/cpu/reference.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kRows = 16;     // rows of y that share one decoding of the weights
constexpr int64_t kColumns = 64;  // weights decoded at a time

float rounded(float value, Precision precision) {
  return precision == Precision::bf16 ? f32_from_bf16(bf16_from_f32(value)) : value;
}

void store(const Output& to, int64_t row, int64_t column, double sum) {
  if (to.bias) sum += host(to.bias)[column];
  if (to.residual) sum += host(to.residual)[row * to.residual_ld + column];
  set(to.y, row, column, sum);
}

}  // namespace

void reference(const Cpu& cpu, const GemmNt& k) {
  const SegmentViews segments(cpu, k.segments);
  const int64_t row_tiles = (k.m + kRows - 1) / kRows;
  cpu.pool.for_range(row_tiles * k.n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / row_tiles;
      const int64_t first = unit % row_tiles * kRows;
      const int64_t rows = std::min(kRows, k.m - first);
      double sums[kRows] = {};
      for (const SegmentView& segment : segments) {
        for (int64_t at = 0; at < segment.w.cols; at += kColumns) {
          const int64_t count = std::min(kColumns, segment.w.cols - at);
          float weights[kColumns];
          decode_row(segment.w, column, at, count, weights);
          for (int64_t i = 0; i < count; ++i) {
            const double weight = rounded(weights[i], k.precision);
            for (int64_t row = 0; row < rows; ++row) {
              sums[row] += weight * rounded(get(segment.x, first + row, at + i), k.precision);
            }
          }
        }
      }
      for (int64_t row = 0; row < rows; ++row) store(k.to, first + row, column, sums[row]);
    }
  });
}

void reference(const Cpu& cpu, const GroupedGemmNt& k) {
  for (const GemmNt& each : k.products) reference(cpu, each);
}

/// Row by row, with the parts of each as further segments.
void reference(const Cpu& cpu, const GemmNtByRow& k) {
  std::byte* hidden = cpu.room + cpu.pool.threads() * kThreadBytes;
  std::vector<Matrix> operands;
  std::vector<std::vector<float>> folded;
  for (const LowRankPart& part : k.parts) {
    const Matrix h{address_of(hidden), operand_of(k.precision), part.a.rows};
    const Segment segment{k.base.x.rows(part.row), part.a};
    reference(cpu, GemmNt{k.precision, part.rows, part.a.rows, {&segment, 1}, {h}});
    hidden += hidden_bytes(part);
    operands.push_back(h);
    Fold fold = part.b;
    fold.out = address_of(folded.emplace_back(static_cast<size_t>(fold.rows * fold.active)).data());
    reference(cpu, fold);
  }
  for (int64_t row = 0; row < k.m; ++row) {
    std::vector<Segment> segments{{k.base.x.rows(row), k.base.w}};
    for (size_t p = 0; p < k.parts.size(); ++p) {
      const LowRankPart& part = k.parts[p];
      if (!part.has(row)) continue;
      const Ptr<float> b = address_of(folded[p].data());
      segments.push_back({operands[p].rows(row - part.row), {k.n, part.b.active, -1, 0, b, part.b.active}});
    }
    reference(cpu, GemmNt{k.precision, 1, k.n, segments, k.to.rows(row)});
  }
}

void reference(const Cpu& cpu, const GemmNn& k) {
  const SegmentViews segments(cpu, k.segments);
  const int64_t row_tiles = (k.m + kRows - 1) / kRows;
  const int64_t strips = (k.n + kColumns - 1) / kColumns;
  cpu.pool.for_range(row_tiles * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / row_tiles * kColumns;
      const int64_t columns = std::min(kColumns, k.n - column);
      const int64_t first = unit % row_tiles * kRows;
      const int64_t rows = std::min(kRows, k.m - first);
      double sums[kRows][kColumns] = {};
      for (const SegmentView& segment : segments) {
        for (int64_t at = 0; at < segment.w.rows; ++at) {
          float weights[kColumns];
          decode_row(segment.w, at, column, columns, weights);
          for (int64_t row = 0; row < rows; ++row) {
            const double x = rounded(get(segment.x, first + row, at), k.precision);
            for (int64_t i = 0; i < columns; ++i) sums[row][i] += x * rounded(weights[i], k.precision);
          }
        }
      }
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < columns; ++i) store(k.to, first + row, column + i, sums[row][i]);
      }
    }
  });
}

void reference(const Cpu& cpu, const ReduceTokens& k) {
  const int64_t strips = (k.n + kColumns - 1) / kColumns;
  cpu.pool.for_range(k.r * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit / strips;
      const int64_t column = unit % strips * kColumns;
      const int64_t columns = std::min(kColumns, k.n - column);
      double sums[kColumns] = {};
      for (int64_t t = 0; t < k.tokens; ++t) {
        const double factor = element(k.u, t, row);
        for (int64_t i = 0; i < columns; ++i) sums[i] += factor * element(k.x, t, column + i);
      }
      for (int64_t i = 0; i < columns; ++i) {
        const int64_t at = k.transposed ? (column + i) * k.ld + row : row * k.ld + column + i;
        host(k.out)[at] += static_cast<float>(k.scale * sums[i]);
      }
    }
  });
}

}  // namespace lowrank::cpu
