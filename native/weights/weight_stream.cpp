#include "weights/weight_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>

#include "core/error.h"
#include "core/math.h"

namespace lowrank {
namespace {

constexpr int64_t kAligned = 256;
constexpr int64_t kSlots = 2;

/// Cuts a base, its head whole or in slices.
class Cut {
 public:
  Cut(const Graph& graph, const std::vector<StorageFormat>& formats, bool whole_head)
      : graph_(graph), formats_(formats) {
    stream.places.resize(graph.weights.size());
    stream.units_of.resize(graph.weights.size());
    const std::vector<bool> tables = graph.tables();
    std::map<int, std::vector<int>> segments;  // their matrices
    for (const Node& node : graph.nodes) {
      if (node.op == Op::linear) segments[node.segment].push_back(node.weight);
      if (node.op == Op::lm_head) head_ = node.weight;
    }
    for (const auto& [segment, matrices] : segments) {
      WeightStream::Unit& unit = begin_unit();
      for (const int weight : matrices) {
        if (stream.places[static_cast<size_t>(weight)].elements >= 0 || tables[static_cast<size_t>(weight)]) continue;
        put(weight);
        add(unit, {weight, 0, graph.weights[static_cast<size_t>(weight)].rows});
      }
      unit.bytes = stream.image_bytes - unit.begin;
      blocks.push_back(static_cast<int>(stream.units.size()) - 1);
    }
    for (size_t weight = 0; weight < tables.size(); ++weight)
      if (tables[weight]) put(static_cast<int>(weight));
    if (head_ >= 0) cut_head(whole_head);
    stream.image_bytes = round_up(stream.image_bytes, kAligned);
  }

  WeightStream stream;
  std::vector<int> blocks;  // units

 private:
  WeightStream::Unit& begin_unit() {
    stream.image_bytes = round_up(stream.image_bytes, kAligned);
    WeightStream::Unit& unit = stream.units.emplace_back();
    unit.begin = stream.image_bytes;
    return unit;
  }
  void put(int weight) {
    const GraphWeight& w = graph_.weights[static_cast<size_t>(weight)];
    const StorageFormat format = formats_[static_cast<size_t>(weight)];
    WeightStream::Place& place = stream.places[static_cast<size_t>(weight)];
    place.elements = round_up(stream.image_bytes, kAligned);
    stream.image_bytes = place.elements + weight_bytes(format, w.rows, w.cols);
    const int64_t constants = constants_bytes(format, w.rows, w.cols);
    if (constants == 0) return;
    place.constants = round_up(stream.image_bytes, kAligned);
    stream.image_bytes = place.constants + constants;
  }
  void add(WeightStream::Unit& unit, const WeightRows& rows) {
    unit.parts.push_back(rows);
    stream.units_of[static_cast<size_t>(rows.weight)].push_back(static_cast<int>(stream.units.size()) - 1);
  }
  void cut_head(bool whole) {
    const GraphWeight& w = graph_.weights[static_cast<size_t>(head_)];
    const StorageFormat format = formats_[static_cast<size_t>(head_)];
    const WeightStream::Place& place = stream.places[static_cast<size_t>(head_)];
    const int64_t at_once = whole ? w.rows : std::min(w.rows, kTableRows);
    for (int64_t begin = 0; begin < w.rows; begin += at_once) {
      const int64_t end = std::min(w.rows, begin + at_once);
      WeightStream::Unit& unit = stream.units.emplace_back();
      unit.begin = place.elements + weight_bytes(format, begin, w.cols);
      unit.bytes = weight_bytes(format, end, w.cols) - weight_bytes(format, begin, w.cols);
      // The constants of a sliced head stay on the device, in memory of their own.
      if (begin == 0 && end == w.rows && place.constants >= 0)
        unit.bytes = place.constants - place.elements + constants_bytes(format, w.rows, w.cols);
      add(unit, {head_, begin, end});
    }
  }

  const Graph& graph_;
  const std::vector<StorageFormat>& formats_;
  int head_ = -1;
};

/// Assigns units their places on the device: resident ones, then the slots if any unit is streamed.
WeightStream settled(const Cut& cut, bool head_stays, int64_t blocks_that_stay) {
  WeightStream stream = cut.stream;
  const auto count = static_cast<int64_t>(cut.blocks.size());
  std::vector<bool> stays(stream.units.size(), head_stays);
  // Evenly spread, so that each fetch has as much work to hide behind.
  for (int64_t i = 0; i < count; ++i)
    stays[static_cast<size_t>(cut.blocks[static_cast<size_t>(i)])] =
        (i + 1) * blocks_that_stay / count > i * blocks_that_stay / count;
  for (size_t unit = 0; unit < stays.size(); ++unit)
    if (!stays[unit]) stream.slot_bytes = std::max(stream.slot_bytes, round_up(stream.units[unit].bytes, kAligned));
  stream.device_bytes = kSlots * stream.slot_bytes;
  for (size_t unit = 0; unit < stays.size(); ++unit) {
    if (!stays[unit]) continue;
    stream.units[unit].home = stream.device_bytes;
    stream.device_bytes += round_up(stream.units[unit].bytes, kAligned);
  }
  return stream;
}

}  // namespace

WeightStream stream_weights(const Graph& graph, const std::vector<StorageFormat>& formats, int64_t budget) {
  const Cut whole(graph, formats, true), sliced(graph, formats, false);
  const WeightStream usual = settled(whole, true, 0);
  if (budget == 0) return usual;
  // The head first: it is read several times in a pass.
  if (usual.device_bytes <= budget) {
    int64_t stay = static_cast<int64_t>(whole.blocks.size());
    while (settled(whole, true, stay).device_bytes > budget) --stay;
    return settled(whole, true, stay);
  }
  WeightStream least = settled(sliced, false, 0);
  if (least.device_bytes <= budget) return least;
  fail("CONFIG", "paged_weights is ", mebibytes(budget), ", expected at least ", mebibytes(least.device_bytes),
       ", which two blocks of this model take on the card; set that much, or true");
}

std::vector<WeightRows> read_order(std::span<const Step> steps, const Plan& plan, const Graph& graph,
                                   int64_t head_rows) {
  std::vector<WeightRows> order;
  for (const Step& step : steps) {
    if (const int weight = step.sliced_weight; weight >= 0) {
      const int64_t rows = graph.weights[static_cast<size_t>(weight)].rows;
      const int64_t chunk = plan.options.mode == Mode::forward ? head_rows : plan.head_chunk;
      for (int64_t row = 0; row < head_rows; row += chunk) {
        for (int64_t begin = (rows - 1) / kTableRows * kTableRows; begin >= 0; begin -= kTableRows)
          order.push_back({weight, begin, std::min(rows, begin + kTableRows)});
        if (!step.slices_again) continue;
        for (int64_t begin = 0; begin < rows; begin += kTableRows)
          order.push_back({weight, begin, std::min(rows, begin + kTableRows)});
      }
    }
    for (const int weight : step.weights) order.push_back({weight, 0, graph.weights[static_cast<size_t>(weight)].rows});
  }
  return order;
}

int64_t bytes_fetched(const WeightStream& stream, std::span<const WeightRows> order) {
  std::vector<int> units;
  for (const WeightRows& rows : order) {
    if (!stream.holds(rows.weight)) continue;
    const int unit = stream.unit_of(rows.weight, rows.begin);
    if (stream.units[static_cast<size_t>(unit)].home < 0 && (units.empty() || units.back() != unit))
      units.push_back(unit);
  }
  const size_t length = units.size();
  std::array<int, kSlots> slots{-1, -1};
  int64_t fetched = 0;
  // The second round begins with the slots as the first one left them. When a unit's turn comes, the next is fetched
  // into the other slot.
  for (size_t at = 0; at < 2 * length; ++at) {
    const size_t now = at % length;
    const auto bring = [&](int unit, int beside) {
      if (slots[0] == unit || slots[1] == unit) return;
      slots[slots[0] == beside ? 1 : 0] = unit;
      if (at >= length) fetched += stream.units[static_cast<size_t>(unit)].bytes;
    };
    bring(units[now], units[(now + 1) % length]);
    bring(units[(now + 1) % length], units[now]);
  }
  return fetched;
}

std::vector<Weight> read_image(const std::shared_ptr<const WeightFile>& file, const WeightStream& stream,
                               const std::shared_ptr<std::byte>& image, const CancelFlag& cancel) {
  std::vector<Weight> weights;
  const std::vector<WeightPlace>& places = file->layout().places;
  for (size_t i = 0; i < places.size(); ++i) {
    if (cancel && cancel->load(std::memory_order_relaxed)) fail("ABORTED", "the job was canceled");
    const int64_t bytes = places[i].end() - places[i].offset;
    file->file().will_need(places[i].offset, bytes);
    weights.push_back(moved_to(image, stream.places[i], WeightFile::weight(file, static_cast<int>(i))));
    file->file().drop(places[i].offset, bytes);
  }
  return weights;
}

Weight moved_to(const std::shared_ptr<std::byte>& image, const WeightStream::Place& place, Weight weight) {
  if (place.elements < 0) return weight;
  std::byte* const elements = image.get() + place.elements;
  WeightBytes there{elements, nullptr, weight.absmax_offset(), image, weight.view().head_rows};
  std::memcpy(elements, weight.data(),
              static_cast<size_t>(weight_bytes(weight.format(), weight.rows(), weight.cols())));
  if (place.constants >= 0) {
    std::memcpy(image.get() + place.constants, weight.constants(),
                static_cast<size_t>(constants_bytes(weight.format(), weight.rows(), weight.cols())));
    there.constants = image.get() + place.constants;
  }
  return {weight.format(), weight.rows(), weight.cols(), there};
}

}  // namespace lowrank
