#include "backends/cuda/weight_ring.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kLeastPiece = int64_t{64} << 10, kMostPiece = int64_t{4} << 20;

/// Bytes of a weight's scales, which lie one after the other, and where they begin.
struct Constants {
  explicit Constants(const WeightView& view) {
    const WeightBytes of = bytes_of(view);
    bytes = of.absmax + of.absmax_codes + of.nested_absmax;
    if (view.absmax != nullptr)
      from = reinterpret_cast<const std::byte*>(view.absmax);
    else
      from = reinterpret_cast<const std::byte*>(view.nested_absmax);
  }
  const std::byte* from;
  int64_t bytes;
};

/// A view's arrays by copies of its elements and of all of the weight's constants, which begin where `begin` does.
WeightAddresses addresses_of(const WeightView& view, const std::byte* begin, Ptr<std::byte> elements,
                             Ptr<std::byte> constants) {
  const auto moved = [&](const void* from) {
    return from == nullptr ? Ptr<std::byte>() : constants + (static_cast<const std::byte*>(from) - begin);
  };
  return {elements, moved(view.absmax).as<float>(), moved(view.absmax_codes).as<uint8_t>(),
          moved(view.nested_absmax).as<float>()};
}

}  // namespace

WeightRing::Staging::Staging(Gpu& gpu, int64_t slot_bytes)
    : piece(std::clamp(slot_bytes / 4, kLeastPiece, kMostPiece)), pinned(gpu, piece * 4) {
  for (std::optional<Gpu::Mark>& end : ends) end.emplace(gpu);
}

WeightRing::WeightRing(CudaMemory& memory, const WeightStore& store, Weights& table)
    : memory_(memory), gpu_(memory.gpu()), stream_(*store.stream()), table_(table) {
  region_ = memory_.uninitialized(Category::paged_weights, stream_.device_bytes);
  constants_.resize(stream_.places.size());
  for (int weight = 0; weight < store.count(); ++weight) {
    if (stream_.units_of[static_cast<size_t>(weight)].size() <= 1) continue;
    const Constants constants(store.view(weight));
    if (constants.bytes == 0) continue;
    constants_memory_.push_back(memory_.uninitialized(Category::quantization_constants, constants.bytes));
    constants_[static_cast<size_t>(weight)] = constants_memory_.back()->data();
    memory_.upload(constants_memory_.back()->data(), constants.from, constants.bytes);
  }
  for (const WeightStream::Unit& unit : stream_.units) {
    if (unit.home < 0) continue;
    upload(store, unit, region_->data() + unit.home);
    set(store, unit, region_->data() + unit.home);
  }
  if (stream_.slot_bytes == 0) return;
  const Gpu::Entered entered(gpu_);
  for (Slot& slot : slots_) slot.ready.emplace(gpu_);
  if (store.image() == nullptr) staging_ = std::make_unique<Staging>(gpu_, stream_.slot_bytes);
}

WeightRing::~WeightRing() {
  const Gpu::Entered entered(gpu_, true);
  gpu_.settle();
  staged_.reset();
  staging_.reset();
  for (Slot& slot : slots_) slot.ready.reset();
}

/// A unit that stays, while nothing else runs.
void WeightRing::upload(const WeightStore& store, const WeightStream::Unit& unit, Ptr<std::byte> at) {
  for (const auto& [weight, begin, end] : unit.parts) {
    const WeightStream::Place& place = stream_.places[static_cast<size_t>(weight)];
    const auto held = store.hold({weight, begin, end});
    const WeightView view = rows_of(store.view(weight), begin, end - begin);
    memory_.upload(at + (place.elements - unit.begin), view.data, bytes_of(view).data);
    const Constants constants(view);
    if (constants.bytes > 0) memory_.upload(at + (place.constants - unit.begin), constants.from, constants.bytes);
  }
}

/// Names a unit's weights to the kernels.
void WeightRing::set(const WeightStore& store, const WeightStream::Unit& unit, Ptr<std::byte> at) {
  for (const auto& [weight, begin, end] : unit.parts) {
    const WeightStream::Place& place = stream_.places[static_cast<size_t>(weight)];
    const WeightView whole = store.view(weight);
    const bool cut = begin > 0 || end < whole.rows;
    const Ptr<std::byte> apart = constants_[static_cast<size_t>(weight)];
    const Ptr<std::byte> elements = cut ? at : at + (place.elements - unit.begin);
    const Ptr<std::byte> constants = apart ? apart : at + (place.constants - unit.begin);
    const WeightView view = cut ? rows_of(whole, begin, end - begin) : whole;
    table_.set(weight, device_weight(view, addresses_of(view, Constants(whole).from, elements, constants), begin));
  }
}

int WeightRing::slot_of(int unit) const {
  for (int slot = 0; slot < 2; ++slot)
    if (slots_[static_cast<size_t>(slot)].unit == unit) return slot;
  return -1;
}

int64_t WeightRing::next_use(int unit) const {
  const auto length = static_cast<int64_t>(order_.size());
  for (int64_t ahead = 1; ahead <= length; ++ahead)
    if (order_[static_cast<size_t>((at_ + ahead) % length)] == unit) return ahead;
  return length + 1;
}

int WeightRing::free_slot() const {
  int found = -1;
  for (int slot = 0; slot < 2; ++slot) {
    const auto& [unit, holds, on_its_way, ready] = slots_[static_cast<size_t>(slot)];
    if (holds > 0) continue;
    if (found < 0 || next_use(unit) > next_use(slots_[static_cast<size_t>(found)].unit)) found = slot;
  }
  return found;
}

void WeightRing::fetch(const WeightStore& store, int unit, int into) {
  if (staged_) stage(store, true);
  Slot& slot = slots_[static_cast<size_t>(into)];
  // A kernel that reads what nobody holds is found out. Of a weight that is cut another slot may have rows.
  if (slot.unit >= 0)
    for (const WeightRows& part : stream_.units[static_cast<size_t>(slot.unit)].parts)
      if (stream_.units_of[static_cast<size_t>(part.weight)].size() == 1) table_.set(part.weight, {});
  const WeightStream::Unit& from = stream_.units[static_cast<size_t>(unit)];
  slot.unit = unit;
  slot.on_its_way = true;
  fetched_ += from.bytes;
  gpu_.order(Lane::in, Lane::kernels);
  if (const std::byte* const image = store.image()) {
    gpu_.check(gpu_.driver().cuMemcpyHtoDAsync_v2(address_of(into).address(), image + from.begin,
                                                  static_cast<size_t>(from.bytes), gpu_.stream(Lane::in)),
               "cuMemcpyHtoDAsync");
    slot.ready->record(Lane::in);
  } else {
    staged_.emplace(Copied{into, from.parts, 0, false, 0, nullptr});
    stage(store, false);
  }
}

/// Copies pieces of the unit that is on its way, until it is there or, unless all of it is wanted, the room is in use.
void WeightRing::stage(const WeightStore& store, bool whole) {
  const WeightStream::Unit& unit = stream_.units[static_cast<size_t>(slots_[static_cast<size_t>(staged_->slot)].unit)];
  while (staged_->part < staged_->parts.size()) {
    const auto& [weight, begin, end] = staged_->parts[staged_->part];
    const WeightStream::Place& place = stream_.places[static_cast<size_t>(weight)];
    const WeightView all = store.view(weight);
    const bool cut = begin > 0 || end < all.rows;
    const WeightView view = cut ? rows_of(all, begin, end - begin) : all;
    const Constants constants(view);
    const auto* const from = staged_->constants ? constants.from : static_cast<const std::byte*>(view.data);
    const int64_t bytes = !staged_->constants ? bytes_of(view).data : cut ? 0 : constants.bytes;
    if (staged_->done == bytes) {
      staged_->done = 0;
      staged_->part += staged_->constants ? 1 : 0;
      staged_->constants = !staged_->constants;
      if (!staged_->constants) staged_->held.reset();
      continue;
    }
    std::optional<Gpu::Mark>& end_of_piece = staging_->ends[staging_->next];
    if (!end_of_piece->reached()) {
      if (!whole) return;
      end_of_piece->wait();
    }
    if (staged_->held == nullptr) staged_->held = store.hold({weight, begin, end});
    const int64_t count = std::min(staging_->piece, bytes - staged_->done);
    std::byte* const piece = staging_->pinned.data() + static_cast<int64_t>(staging_->next) * staging_->piece;
    std::copy_n(from + staged_->done, count, piece);
    const int64_t offset = cut ? 0 : (staged_->constants ? place.constants : place.elements) - unit.begin;
    gpu_.check(gpu_.driver().cuMemcpyHtoDAsync_v2((address_of(staged_->slot) + offset + staged_->done).address(), piece,
                                                  static_cast<size_t>(count), gpu_.stream(Lane::in)),
               "cuMemcpyHtoDAsync");
    end_of_piece->record(Lane::in);
    staging_->next = (staging_->next + 1) % staging_->ends.size();
    staged_->done += count;
  }
  slots_[static_cast<size_t>(staged_->slot)].ready->record(Lane::in);
  staged_.reset();
}

void WeightRing::fetch_next(const WeightStore& store) {
  if (order_.empty()) return;
  const auto length = static_cast<int64_t>(order_.size());
  const int next = order_[static_cast<size_t>((at_ + 1) % length)];
  const int into = free_slot();
  if (into >= 0 && slot_of(next) < 0) fetch(store, next, into);
}

void WeightRing::expect(const WeightStore& store, std::span<const WeightRows> order) {
  if (stream_.slot_bytes == 0) return;
  order_.clear();
  at_ = -1;
  for (const WeightRows& rows : order) {
    if (!stream_.holds(rows.weight)) continue;
    const int unit = stream_.unit_of(rows.weight, rows.begin);
    if (stream_.units[static_cast<size_t>(unit)].home >= 0) continue;
    if (order_.empty() || order_.back() != unit) order_.push_back(unit);
  }
  fetch_next(store);
}

std::unique_ptr<Hold> WeightRing::hold(const WeightStore& store, const WeightRows& rows) {
  struct Held final : Hold {
    explicit Held(int& of) : holds(of) { ++holds; }
    ~Held() override { --holds; }
    int& holds;
  };
  if (rows.weight < 0 || rows.begin >= rows.end || !stream_.holds(rows.weight)) return nullptr;
  const int unit = stream_.unit_of(rows.weight, rows.begin);
  if (stream_.units[static_cast<size_t>(unit)].home >= 0) return nullptr;
  if (stream_.unit_of(rows.weight, rows.end - 1) != unit)
    fail("INTERNAL", "rows ", rows.begin, " to ", rows.end, " of weight ", rows.weight,
         " do not come to the device together");
  const bool moves = at_ < 0 || order_.empty() || order_[static_cast<size_t>(at_)] != unit;
  const auto length = static_cast<int64_t>(order_.size());
  for (int64_t ahead = 1; moves && ahead <= length; ++ahead)
    if (order_[static_cast<size_t>((at_ + ahead) % length)] == unit) {
      at_ = (at_ + ahead) % length;
      break;
    }
  int number = slot_of(unit);
  if (number < 0) {
    number = free_slot();
    if (number < 0) fail("INTERNAL", "a step holds more of the base than two slots on ", gpu_.name(), " have room for");
    fetch(store, unit, number);
  }
  Slot& slot = slots_[static_cast<size_t>(number)];
  if (staged_ && staged_->slot == number) stage(store, true);
  if (slot.on_its_way) {
    slot.ready->hold_back(Lane::kernels);
    slot.on_its_way = false;
  }
  if (moves) set(store, stream_.units[static_cast<size_t>(unit)], address_of(number));
  auto held = std::make_unique<Held>(slot.holds);
  if (moves) fetch_next(store);
  return held;
}

}  // namespace lowrank::cuda
