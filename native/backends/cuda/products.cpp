#include "backends/cuda/runs.h"

#include <algorithm>
#include <vector>

#include "backends/cuda/few_rows.h"
#include "backends/cuda/multiply.h"
#include "backends/cuda/weight.h"
#include "core/math.h"
#include "device/layout.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kAligned = 256;
/// Fewer columns of the reduction than this are rounded where they are multiplied; more are rounded once, before.
constexpr int64_t kConvertedInPlace = 256;

/// GemmNt or GemmNn: activations with factors, which lie as [n, k] or [k, n].
struct WeightProduct {
  GemmLayout layout;
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  const Output& to;

  bool nt() const { return layout == GemmLayout::nt; }
  /// True if segments may be joined to one.
  bool joins() const { return segments.size() > 1; }
  int64_t depth(const Segment& s) const { return nt() ? s.w.cols : s.w.rows; }
};
WeightProduct product_of(const GemmNt& k) { return {GemmLayout::nt, k.precision, k.m, k.n, k.segments, k.to}; }
WeightProduct product_of(const GemmNn& k) { return {GemmLayout::nn, k.precision, k.m, k.n, k.segments, k.to}; }

/// True for a factor that has to be decoded first, unless it is stored as an operand.
bool is_decoded(const WeightProduct& p, const Segment& s) {
  return s.w.weight >= 0 || (p.precision == Precision::bf16 && p.depth(s) > kConvertedInPlace);
}
/// True for a factor that may be decoded, judged by shapes alone: one of several segments may be joined.
bool may_decode(const WeightProduct& p, const Segment& s) { return p.joins() || is_decoded(p, s); }
bool decodes(const WeightProduct& p, const Segment& s, const DeviceWeight& w) {
  if (!is_decoded(p, s) || w.format == DeviceFormat::bf16) return false;
  return p.precision == Precision::bf16 || w.format != DeviceFormat::f32;
}

// ---- segments whose activations lie beside each other in the same rows

/// One segment, or several that are one: their factors are decoded below (nn) or beside (nt) each other.
struct Joined {
  std::vector<const Segment*> segments;
  int64_t depth = 0;
};

bool follows(const WeightProduct& p, const Joined& joined, const Segment& s) {
  const Matrix& x = joined.segments.front()->x;
  return s.x.data.address() == x.columns(joined.depth).data.address() && s.x.ld == x.ld && s.x.dtype == x.dtype &&
         joined.depth + p.depth(s) <= x.ld;
}

/// True if joining lets the library serve more, or saves a pass over y. False for one large factor that the library
/// reads where it lies: joining would copy it.
bool is_worth_it(const Launcher& launcher, const WeightProduct& p, const Joined& joined) {
  const Matrix& x = joined.segments.front()->x;
  if (joined.segments.size() == 1 || x.dtype != operand_of(p.precision) || !rows_aligned(x, 16) ||
      !is_large(launcher.card(), p.m, p.n, joined.depth))
    return false;
  int large = 0;
  bool lies_ready = false;
  for (const Segment* const s : joined.segments) {
    if (!is_large(launcher.card(), p.m, p.n, p.depth(*s))) continue;
    ++large;
    lies_ready = lies_ready || !decodes(p, *s, device_weight(launcher.weights(), s->w));
  }
  return large > 1 || (large == 1 && !lies_ready);
}

std::vector<Joined> joined_of(const Launcher& launcher, const WeightProduct& p) {
  std::vector<Joined> all;
  std::vector<const Segment*> left;
  for (const Segment& s : p.segments)
    if (p.depth(s) > 0) left.push_back(&s);
  while (!left.empty()) {
    const Joined alone{{left.front()}, p.depth(*left.front())};
    Joined joined = alone;
    const auto next = [&] {
      return std::find_if(left.begin(), left.end(), [&](const Segment* s) { return follows(p, joined, *s); });
    };
    if (p.joins() && launcher.has_library()) {
      for (auto at = next(); at != left.end(); at = next()) {
        joined.segments.push_back(*at);
        joined.depth += p.depth(**at);
      }
    }
    if (!is_worth_it(launcher, p, joined)) joined = alone;
    std::erase_if(left, [&](const Segment* s) {
      return std::find(joined.segments.begin(), joined.segments.end(), s) != joined.segments.end();
    });
    all.push_back(std::move(joined));
  }
  return all;
}

/// How a product is cut into slices of the outputs, for which the factors that need it are decoded.
struct Slices {
  int64_t outputs;  // of a slice
  int64_t bytes;    // room for the decoded factors of a slice, never less for deeper factors
};
/// @param bytes_of bytes of the decoded factors for a number of outputs
template <class BytesOf>
Slices slices_of(const Card& card, int64_t n, BytesOf&& bytes_of) {
  constexpr int64_t kUnit = 256;
  const int64_t per_unit = bytes_of(kUnit), room = std::max(card.decoded_bytes, per_unit);
  const int64_t outputs = per_unit == 0 ? n : std::min(n, room / per_unit * kUnit);
  return {outputs, std::min(bytes_of(n), room)};
}
int64_t decoded_bytes(const WeightProduct& p, int64_t depth, int64_t outputs) {
  const int64_t rows = p.nt() ? outputs : depth, cols = p.nt() ? depth : outputs;
  return round_up(rows * round_up(cols, 64) * size_of(operand_of(p.precision)), kAligned);
}
Slices slices_of(const Card& card, const WeightProduct& p) {
  return slices_of(card, p.n, [&](int64_t outputs) {
    int64_t bytes = 0;
    for (const Segment& s : p.segments)
      if (may_decode(p, s)) bytes += decoded_bytes(p, p.depth(s), outputs);
    return bytes;
  });
}

int64_t workspace_of(const Card& card, const WeightProduct& p) {
  std::vector<int64_t> depths;
  for (const Segment& s : p.segments) depths.push_back(p.depth(s));
  return std::max(slices_of(card, p).bytes + multiply_workspace(card, p.layout, p.precision, p.m, p.n, depths),
                  few_rows_workspace(p.nt(), p.n, p.segments));
}

/// Decodes the part of the factors for the outputs from `first` on.
void decode(Launcher& launcher, const WeightProduct& p, const Joined& joined, int64_t first, int64_t count,
            const Matrix& out) {
  int64_t at = 0;
  for (const Segment* const s : joined.segments) {
    const DeviceWeight w = device_weight(launcher.weights(), s->w);
    if (p.nt())
      dequantize(launcher, rows_of(w, first, count), 0, w.cols, out.columns(at));
    else
      dequantize(launcher, w, first, count, out.rows(at));
    at += p.depth(*s);
  }
}

/// The part of y, bias and residual that begins with a column.
Output columns_of(const Output& to, int64_t first) {
  return {to.y.columns(first), to.bias ? to.bias + first : to.bias, to.residual ? to.residual + first : to.residual,
          to.residual_ld};
}

void run_product(Launcher& launcher, const WeightProduct& p, Ptr<std::byte> workspace) {
  if (p.m == 0 || p.n == 0) return;
  if (p.segments.size() > kMostSegments)
    fail("INTERNAL", "a product has ", p.segments.size(), " segments; expected at most ", kMostSegments);
  if (p.nt() && multiply_few_rows(launcher, p.precision, p.m, p.n, p.segments, p.to, workspace)) return;
  const Slices slices = slices_of(launcher.card(), p);
  const std::vector<Joined> all = joined_of(launcher, p);
  for (int64_t first = 0; first < p.n; first += slices.outputs) {
    const int64_t count = std::min(slices.outputs, p.n - first);
    std::vector<ProductPart> parts;
    Ptr<std::byte> room = workspace;
    for (const Joined& joined : all) {
      const Segment& head = *joined.segments.front();
      const DeviceWeight w = device_weight(launcher.weights(), head.w);
      Matrix factor;
      if (joined.segments.size() > 1 || decodes(p, head, w)) {
        factor = {room, operand_of(p.precision), round_up(p.nt() ? joined.depth : count, 64)};
        decode(launcher, p, joined, first, count, factor);
        room = room + decoded_bytes(p, joined.depth, count);
      } else {
        factor = p.nt() ? dense_matrix(rows_of(w, first, count)) : dense_matrix(w).columns(first);
      }
      parts.push_back({head.x, factor, joined.depth});
    }
    multiply(launcher, {p.layout, p.precision, p.m, count, parts, columns_of(p.to, first)}, workspace + slices.bytes);
  }
}

// ---- products of one x whose outputs lie beside each other

/// One product in place of all: its factor has that of each segment in the rows of its outputs and in the columns in
/// which its activations lie beside x, and zeros elsewhere.
struct Group {
  Precision precision;
  int64_t m = 0, n = 0, first_depth = 0, depth = 0;  // first_depth: that of x itself
  bool has_bias = false;
};
Group group_of(const GroupedGemmNt& k) {
  const GemmNt& head = k.products.front();
  Group group{head.precision, head.m};
  group.first_depth = group.depth = head.segments.front().w.cols;
  for (const GemmNt& each : k.products) {
    group.n += each.n;
    group.has_bias = group.has_bias || each.to.bias;
    for (const Segment& s : each.segments.subspan(1)) group.depth += s.w.cols;
  }
  return group;
}
Slices slices_of(const Card& card, const Group& g) {
  return slices_of(card, g.n, [&](int64_t outputs) {
    return round_up(outputs * round_up(g.depth, 64) * size_of(operand_of(g.precision)), kAligned);
  });
}
int64_t group_bias_bytes(const Group& g) { return g.has_bias ? round_up(g.n * int64_t{sizeof(float)}, kAligned) : 0; }

/// The column in which a segment's activations lie in the rows of x; -1 where they do not.
int64_t column_in(const Matrix& x, const Segment& s) {
  const int64_t bytes = static_cast<int64_t>(s.x.data.address() - x.data.address()), column = bytes / size_of(x.dtype);
  const bool lies_there = s.x.ld == x.ld && s.x.dtype == x.dtype && column >= 0 && column + s.w.cols <= x.ld;
  return lies_there ? column : -1;
}

/// True if the library can serve all as one without copies of large weights that it can read where they lie.
bool is_worth_it(const Launcher& launcher, const GroupedGemmNt& k, const Group& g) {
  const Matrix &x = k.products.front().segments.front().x, &y = k.products.front().to.y;
  if (!launcher.has_library() || k.products.size() < 2 || !is_large(launcher.card(), g.m, g.n, g.depth) ||
      x.dtype != operand_of(g.precision) || !rows_aligned(x, 16) || !rows_aligned(y, 16) || y.dtype != x.dtype)
    return false;
  int64_t n = 0;
  for (const GemmNt& each : k.products) {
    const WeightProduct p = product_of(each);
    const Matrix& to = each.to.y;
    if (each.to.residual || to.ld != y.ld || to.data.address() != y.columns(n).data.address()) return false;
    n += each.n;
    for (const Segment& s : each.segments) {
      const bool is_first = &s == &each.segments.front();
      const int64_t column = column_in(x, s);
      if (is_first ? column != 0 || s.w.cols != g.first_depth : column < g.first_depth || column + s.w.cols > g.depth)
        return false;
      const bool is_large_weight = s.w.weight >= 0 && is_large(launcher.card(), g.m, each.n, s.w.cols);
      if (is_large_weight && !decodes(p, s, device_weight(launcher.weights(), s.w))) return false;
    }
  }
  return true;
}

/// Decodes the factors of a member for its outputs from `first` on.
void decode(Launcher& launcher, const GemmNt& member, int64_t first, int64_t count, const Matrix& out) {
  const Matrix& x = member.segments.front().x;
  for (const Segment& s : member.segments) {
    const DeviceWeight w = device_weight(launcher.weights(), s.w);
    dequantize(launcher, rows_of(w, first, count), 0, w.cols, out.columns(column_in(x, s)));
  }
}

/// The biases of all members behind each other.
Ptr<float> gather_biases(Launcher& launcher, const GroupedGemmNt& k, Ptr<float> to) {
  int64_t at = 0;
  for (const GemmNt& each : k.products) {
    if (each.to.bias)
      dequantize(launcher, device_weight(launcher.weights(), {1, each.n, -1, 0, each.to.bias, each.n}), 0, each.n,
                 f32_matrix(to + at, each.n));
    else
      launcher.zero((to + at).as<std::byte>(), each.n * int64_t{sizeof(float)});
    at += each.n;
  }
  return to;
}

void run_group(Launcher& launcher, const GroupedGemmNt& k, const Group& g, Ptr<std::byte> workspace) {
  const Segment& head = k.products.front().segments.front();
  Output to{k.products.front().to.y};
  if (g.has_bias) to.bias = gather_biases(launcher, k, workspace.as<float>());
  const Matrix factor{workspace + group_bias_bytes(g), operand_of(g.precision), round_up(g.depth, 64)};
  const Slices slices = slices_of(launcher.card(), g);
  const Ptr<std::byte> rest = factor.data + slices.bytes;
  for (int64_t first = 0; first < g.n; first += slices.outputs) {
    const int64_t count = std::min(slices.outputs, g.n - first);
    if (g.depth > g.first_depth) launcher.zero(factor.columns(g.first_depth), count, g.depth - g.first_depth);
    int64_t begin = 0;  // first output of a member
    for (const GemmNt& each : k.products) {
      const int64_t from = std::max(first, begin), until = std::min(first + count, begin + each.n);
      if (from < until) decode(launcher, each, from - begin, until - from, factor.rows(from - first));
      begin += each.n;
    }
    const ProductPart part{head.x, factor, g.depth};
    multiply(launcher, {GemmLayout::nt, g.precision, g.m, count, {&part, 1}, columns_of(to, first)}, rest);
  }
}

/// Folded factors and operands of the parts of rows.
int64_t workspace_of_parts(const GemmNtByRow& k) {
  Layout room;
  for (const LowRankPart& part : k.parts) {
    room.take<float>(part.b.rows * part.b.active);
    room.take<std::byte>(part.rows * part.a.rows * size_of(operand_of(k.precision)));
  }
  return room.bytes();
}

}  // namespace

void run(Launcher& launcher, const GemmNt& k, Ptr<std::byte> workspace) {
  run_product(launcher, product_of(k), workspace);
}
void run(Launcher& launcher, const GroupedGemmNt& k, Ptr<std::byte> workspace) {
  const Group group = group_of(k);
  if (is_worth_it(launcher, k, group)) return run_group(launcher, k, group, workspace);
  for (const GemmNt& each : k.products) run(launcher, each, workspace);
}
/// A row at a time, as alone.
void run(Launcher& launcher, const GemmNtByRow& k, Ptr<std::byte> workspace) {
  Layout room(workspace, workspace_of_parts(k));
  std::vector<Segment> parts;
  for (const LowRankPart& part : k.parts) {
    Fold fold = part.b;
    fold.out = room.take<float>(fold.rows * fold.active);
    run(launcher, fold, {});
    const DType dtype = operand_of(k.precision);
    const Matrix h{room.take<std::byte>(part.rows * part.a.rows * size_of(dtype)), dtype, part.a.rows};
    parts.push_back({h, {k.n, fold.active, -1, 0, fold.out, fold.active}});
  }
  const Ptr<std::byte> rest = workspace + workspace_of_parts(k);
  for (int64_t row = 0; row < k.m; ++row) {
    std::vector<Segment> segments{{k.base.x.rows(row), k.base.w}};
    for (size_t p = 0; p < parts.size(); ++p) {
      const LowRankPart& part = k.parts[p];
      if (!part.has(row)) continue;
      const Segment through{k.base.x.rows(row), part.a}, &own = parts[p];
      segments.push_back({own.x.rows(row - part.row), own.w});
      run(launcher, GemmNt{k.precision, 1, part.a.rows, {&through, 1}, {segments.back().x}}, rest);
    }
    run(launcher, GemmNt{k.precision, 1, k.n, segments, k.to.rows(row)}, rest);
  }
}
void run(Launcher& launcher, const GemmNn& k, Ptr<std::byte> workspace) {
  run_product(launcher, product_of(k), workspace);
}
int64_t workspace(const Card& card, const GemmNt& k) { return workspace_of(card, product_of(k)); }
int64_t workspace(const Card& card, const GroupedGemmNt& k) {
  const Group g = group_of(k);
  int64_t bytes = group_bias_bytes(g) + slices_of(card, g).bytes +
                  multiply_workspace(card, GemmLayout::nt, g.precision, g.m, g.n, {&g.depth, 1});
  for (const GemmNt& each : k.products) bytes = std::max(bytes, workspace(card, each));
  return bytes;
}
int64_t workspace(const Card& card, const GemmNtByRow& k) {
  std::vector<Segment> segments{k.base};
  int64_t through = 0;
  for (const LowRankPart& part : k.parts) {
    const Segment x{k.base.x, part.a};
    through = std::max(through, workspace(card, GemmNt{k.precision, 1, part.a.rows, {&x, 1}, {}}));
    segments.push_back(
        {{{}, operand_of(k.precision), part.a.rows}, {k.n, part.b.active, -1, 0, part.b.b, part.b.active}});
  }
  return workspace_of_parts(k) + std::max(through, workspace(card, GemmNt{k.precision, 1, k.n, segments, k.to}));
}
int64_t workspace(const Card& card, const GemmNn& k) { return workspace_of(card, product_of(k)); }

// The factors change places where the result is transposed.
void run(Launcher& launcher, const ReduceTokens& k, Ptr<std::byte> workspace) {
  if (k.tokens == 0) return;
  const ProductPart part{k.transposed ? k.x : k.u, k.transposed ? k.u : k.x, k.tokens};
  const int64_t m = k.transposed ? k.n : k.r, n = k.transposed ? k.r : k.n;
  const Output to{f32_matrix(k.out, k.ld), {}, k.out, k.ld};
  multiply(launcher, {GemmLayout::tn, k.precision, m, n, {&part, 1}, to, k.scale}, workspace);
}
int64_t workspace(const Card& card, const ReduceTokens& k) {
  const int64_t m = k.transposed ? k.n : k.r, n = k.transposed ? k.r : k.n;
  return multiply_workspace(card, GemmLayout::tn, k.precision, m, n, {&k.tokens, 1});
}

}  // namespace lowrank::cuda
