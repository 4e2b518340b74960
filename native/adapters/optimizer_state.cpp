#include "adapters/optimizer_state.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "adapters/adapter.h"
#include "core/error.h"
#include "quant/dynamic.h"

namespace lowrank {
namespace {

constexpr int64_t kWord = sizeof(float);
// Chunks that are in memory at once: one is read, one updated and one written. The page cache
// holds copies of one that is read and of two that are written for a while.
constexpr int64_t kRing = 3, kCached = 4;
constexpr int64_t kPage = 4096, kLeastChunk = 16 * kPage, kMostChunk = int64_t{4} << 20;
constexpr int64_t kLeastResident = 1 << 20;

int64_t round_to_page(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

int64_t blocks_of(int64_t count) { return (count + kDynamicBlock - 1) / kDynamicBlock; }

/// Bytes of an array: its floats, or the blocks' largest magnitudes and then the codes, up to whole words.
int64_t array_bytes(int64_t count, bool coded) {
  return coded ? kWord * blocks_of(count) + (count + kWord - 1) / kWord * kWord : kWord * count;
}

/// Bytes of a part of a parameter whose arrays have its own shape, or of all of one.
int64_t piece_bytes(const std::vector<StateArray>& arrays, int64_t elements, int64_t count) {
  int64_t bytes = 0;
  for (const StateArray& array : arrays) bytes += array_bytes(count == elements ? array.count() : count, array.coded);
  return bytes;
}

/// Deals a parameter out to chunks, filling the last one first, from a page on where it is read and written on its own.
void deal(const std::vector<StateArray>& arrays, int parameter, int64_t elements, bool alone, StateLayout& layout,
          int64_t& filled) {
  if (alone) filled = round_to_page(filled);
  const int64_t per_block = piece_bytes(arrays, -1, kDynamicBlock);
  for (int64_t begin = 0; begin < elements;) {
    const int64_t fit = layout.chunks.empty() ? 0 : (layout.chunk_bytes - filled) / per_block * kDynamicBlock;
    if (fit == 0) {
      layout.chunks.emplace_back();
      filled = 0;
      continue;
    }
    const int64_t count = std::min(fit, elements - begin);
    layout.chunks.back().push_back({parameter, begin, count, filled});
    filled += piece_bytes(arrays, elements, count);
    begin += count;
  }
}

}  // namespace

std::vector<StateArray> state_arrays(const ParameterSpec& p, const StateSpec& spec) {
  const bool coded = spec.eight_bit && p.rows * p.cols >= kLeastEightBit;
  switch (spec.kind) {
    case OptimizerKind::adamw:
      return {{"m", p.rows, p.cols, coded}, {coded ? "sqrt_v" : "v", p.rows, p.cols, coded}};
    case OptimizerKind::lion:
      return {{"m", p.rows, p.cols, coded}};
    case OptimizerKind::sgd:
      return spec.momentum ? std::vector<StateArray>{{"m", p.rows, p.cols}} : std::vector<StateArray>{};
    case OptimizerKind::adafactor:
      if (p.rows == 1 || p.cols == 1) return {{"v", p.rows, p.cols}};
      return {{"row", 1, p.rows}, {"column", 1, p.cols}};
  }
  return {};
}

int64_t StateLayout::allocated_bytes() const { return resident_bytes + (chunks.empty() ? 0 : kRing * chunk_bytes); }

StateLayout lay_out_state(const AdapterSpec& adapter) {
  const StateSpec& spec = adapter.state;
  const auto bytes_of = [&](const ParameterSpec& p) {
    return p.trained ? piece_bytes(state_arrays(p, spec), p.rows * p.cols, p.rows * p.cols) : 0;
  };
  if (spec.in_backward && adapter.privacy != Privacy::none)
    fail("CONFIG",
         "private training clips and sums whole gradients, so it does not support updates in the backward "
         "pass");
  int64_t all = 0;
  for (const ParameterSpec& p : adapter.parameters) all += bytes_of(p);
  StateLayout layout;
  int64_t room = all, filled = 0;
  if (spec.resident >= 0 && all > spec.resident) {
    if (spec.resident < kLeastResident)
      fail("CONFIG", "the memory limit of the optimizer state is ", spec.resident, " bytes; expected at least ",
           kLeastResident);
    if (adapter.keeps_start())
      fail("CONFIG", "the optimizer state of ", all, " bytes exceeds the limit of ", spec.resident,
           ", and private training of clients keeps all of it in memory; raise the limit, or use adamw or adamw_8bit");
    layout.chunk_bytes = std::clamp(spec.resident / 32 / kPage * kPage, kLeastChunk, kMostChunk);
    room = spec.resident - (kRing + kCached) * layout.chunk_bytes;
  }
  for (size_t i = 0; i < adapter.parameters.size(); ++i) {
    const ParameterSpec& p = adapter.parameters[i];
    if (!p.trained) continue;
    const int index = static_cast<int>(i);
    const int64_t elements = p.rows * p.cols, bytes = bytes_of(p);
    if (layout.resident_bytes + bytes <= room) {
      layout.resident.push_back({index, 0, elements, layout.resident_bytes});
      layout.resident_bytes += bytes;
    } else {
      deal(state_arrays(p, spec), index, elements, spec.in_backward, layout, filled);
    }
  }
  return layout;
}

OptimizerState::OptimizerState(const AdapterSpec& adapter, Memory& memory)
    : adapter_(adapter),
      layout_(lay_out_state(adapter)),
      memory_(memory),
      resident_(memory.allocate(Category::optimizer, layout_.resident_bytes)),
      ring_(memory.allocate(Category::optimizer, layout_.allocated_bytes() - layout_.resident_bytes)) {
  if (const int64_t bytes = layout_.file_bytes(); bytes > 0)
    stash_ = memory.stash(Category::optimizer, adapter.state.folder, bytes);
}

void OptimizerState::clear() {
  resident_->clear();
  if (stash_) stash_ = memory_.stash(Category::optimizer, adapter_.state.folder, layout_.file_bytes());
}

void OptimizerState::sweep(const Visit& visit) {
  visit(layout_.resident, data());
  const auto count = static_cast<int64_t>(layout_.chunks.size());
  if (count == 0) return;
  const auto place = [&](int64_t chunk) { return ring_->data() + chunk % kRing * layout_.chunk_bytes; };
  std::mutex mutex;
  std::condition_variable moved;
  int64_t read = 0, updated = 0;  // chunks so far
  std::exception_ptr failure;
  std::thread transfers([&] {
    int64_t written = 0;
    try {
      while (written < count) {
        std::unique_lock lock(mutex);
        const bool reads = read < std::min(count, written + kRing);
        moved.wait(lock, [&] { return updated > written || reads; });
        const bool writes = updated > written;
        lock.unlock();
        // Updated chunks are written first, to make room.
        const int64_t chunk = writes ? written : read;
        const int64_t offset = chunk * layout_.chunk_bytes;
        if (writes)
          stash_->put(offset, place(chunk), layout_.chunk_bytes);
        else
          stash_->fetch(place(chunk), offset, layout_.chunk_bytes);
        lock.lock();
        ++(writes ? written : read);
        moved.notify_all();
      }
      stash_->settle();
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      moved.notify_all();
    }
  });
  for (int64_t chunk = 0; chunk < count; ++chunk) {
    {
      std::unique_lock lock(mutex);
      moved.wait(lock, [&] { return read > chunk || failure; });
      if (failure) break;
    }
    visit(layout_.chunks[chunk], place(chunk));
    const std::lock_guard lock(mutex);
    ++updated;
    moved.notify_all();
  }
  transfers.join();
  if (failure) std::rethrow_exception(failure);
}

std::vector<OptimizerState::PagedPiece> OptimizerState::paged_pieces(int parameter) const {
  const ParameterSpec& p = adapter_.parameters[parameter];
  const std::vector<StateArray> arrays = state_arrays(p, adapter_.state);
  std::vector<PagedPiece> found;
  for (size_t chunk = 0; chunk < layout_.chunks.size(); ++chunk)
    for (const StatePiece& piece : layout_.chunks[chunk])
      if (piece.parameter == parameter)
        found.push_back({&piece, static_cast<int64_t>(chunk) * layout_.chunk_bytes + piece.offset,
                         round_to_page(piece_bytes(arrays, p.rows * p.cols, piece.count))});
  return found;
}

void OptimizerState::visit(int parameter, const Visit& visit) {
  for (const StatePiece& piece : layout_.resident)
    if (piece.parameter == parameter) visit({piece}, data());
  const std::vector<PagedPiece> pieces = paged_pieces(parameter);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& [piece, at, bytes] = pieces[i];
    stash_->fetch(ring_->data() + piece->offset, at, bytes);
    if (i + 1 < pieces.size()) stash_->will_fetch(pieces[i + 1].at, pieces[i + 1].bytes);
    visit({*piece}, ring_->data());
    stash_->put(at, ring_->data() + piece->offset, bytes);
  }
}

void OptimizerState::will_need(int parameter) const {
  if (stash_ == nullptr) return;
  if (const std::vector<PagedPiece> pieces = paged_pieces(parameter); !pieces.empty())
    stash_->will_fetch(pieces[0].at, pieces[0].bytes);
}

void OptimizerState::settle() {
  if (stash_) stash_->settle();
}

std::vector<Moments> OptimizerState::views(const StatePiece& piece, Ptr<std::byte> base) const {
  const ParameterSpec& p = adapter_.parameters[piece.parameter];
  std::vector<Moments> views;
  Ptr<std::byte> at = base + piece.offset;
  for (const StateArray& array : state_arrays(p, adapter_.state)) {
    const int64_t count = piece.count == p.rows * p.cols ? array.count() : piece.count;
    const Ptr<float> floats = at.as<float>();
    if (array.coded)
      views.push_back({{}, (floats + blocks_of(count)).as<uint8_t>(), floats});
    else
      views.push_back({floats});
    at = at + array_bytes(count, array.coded);
  }
  return views;
}

std::vector<Moments> OptimizerState::views(int parameter) const {
  for (const StatePiece& piece : layout_.resident)
    if (piece.parameter == parameter) return views(piece, data());
  fail("CONFIG", "the optimizer's state of ", adapter_.parameters[parameter].name,
       " is paged out, but updates by rank require it in memory; allow more memory, or use adamw");
}

std::vector<StateTensor> OptimizerState::tensors(int parameter) const {
  std::vector<StateTensor> tensors;
  const ParameterSpec& p = adapter_.parameters[parameter];
  if (!p.trained) return tensors;
  for (const StateArray& array : state_arrays(p, adapter_.state)) {
    const std::string name(array.name);
    tensors.push_back({name, array.coded, {array.rows, array.cols}, array.count() * (array.coded ? 1 : kWord)});
    const int64_t blocks = blocks_of(array.count());
    if (array.coded) tensors.push_back({name + "_absmax", false, {blocks}, blocks * kWord});
  }
  return tensors;
}

void OptimizerState::each_stretch(int parameter, const std::string& tensor, const Stretch& each) const {
  const ParameterSpec& p = adapter_.parameters[parameter];
  const std::vector<StateArray> arrays = state_arrays(p, adapter_.state);
  const auto of_piece = [&](const StatePiece& piece, int64_t base, bool resident) {
    if (piece.parameter != parameter) return;
    int64_t at = base + piece.offset;
    for (const StateArray& array : arrays) {
      const std::string name(array.name);
      const int64_t count = piece.count == p.rows * p.cols ? array.count() : piece.count;
      const int64_t absmax = array.coded ? kWord * blocks_of(count) : 0;
      if (tensor == name) each(at + absmax, array.coded ? count : kWord * count, resident);
      if (array.coded && tensor == name + "_absmax") each(at, absmax, resident);
      at += array_bytes(count, array.coded);
    }
  };
  for (const StatePiece& piece : layout_.resident) of_piece(piece, 0, true);
  for (size_t chunk = 0; chunk < layout_.chunks.size(); ++chunk)
    for (const StatePiece& piece : layout_.chunks[chunk])
      of_piece(piece, static_cast<int64_t>(chunk) * layout_.chunk_bytes, false);
}

void OptimizerState::read(int parameter, const std::string& tensor, int64_t begin, int64_t count,
                          std::byte* out) const {
  int64_t passed = 0;  // bytes of the tensor in stretches before
  each_stretch(parameter, tensor, [&](int64_t at, int64_t bytes, bool resident) {
    const int64_t from = std::max<int64_t>(begin - passed, 0), to = std::min(begin + count - passed, bytes);
    passed += bytes;
    if (from >= to) return;
    if (resident)
      memory_.download(out, data() + (at + from), to - from, "optimizer state");
    else
      stash_->read(at + from, out, to - from);
    out += to - from;
  });
}

void OptimizerState::write(int parameter, const std::string& tensor, const std::byte* from) {
  each_stretch(parameter, tensor, [&](int64_t at, int64_t bytes, bool resident) {
    if (resident)
      memory_.upload(data() + at, from, bytes);
    else
      stash_->write(at, from, bytes);
    from += bytes;
  });
  if (stash_) stash_->settle();
}

}  // namespace lowrank
