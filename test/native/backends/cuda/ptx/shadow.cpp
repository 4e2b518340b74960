#include "backends/cuda/ptx/shadow.h"

#include <algorithm>

namespace lowrank::test::ptx {
namespace {

constexpr uint32_t kHeld = 1u << 31;      // a copy in flight, in a cell's pc
constexpr uint32_t kSeveral = 1u << 30;   // readers of one warp, in a cell's thread: the warp's first thread is below
constexpr uint32_t kAnywhere = 1u << 29;  // readers of several warps
constexpr uint32_t kManyBlocks = ~0u;     // readers of several blocks

constexpr uint32_t warp_of(uint32_t thread) { return (thread & (kAnywhere - 1)) / 32; }

}  // namespace

Shadow::Line& Shadow::line(uint64_t number) {
  const uint64_t page = number / kPageLines;
  if (page != last_page_) {
    auto& found = pages_[page];
    if (!found) found = std::make_unique<Page>();
    last_ = found.get();
    last_page_ = page;
  }
  return (*last_)[number % kPageLines];
}

template <class Body>
void Shadow::groups(uint64_t address, int bytes, Body body) {
  while (bytes > 0) {
    const int begin = static_cast<int>(address % kLineBytes);
    const int part = std::min(bytes, kLineBytes - begin);
    Line& at = line(address / kLineBytes);
    // The largest group that both ends fall on.
    int grain = at.grain;
    while ((begin | part) % grain != 0) grain /= 2;
    if (grain < at.grain) {
      const int ratio = at.grain / grain;
      for (int i = kLineBytes / grain - 1; i >= 0; --i) {
        at.writes[static_cast<size_t>(i)] = at.writes[static_cast<size_t>(i / ratio)];
        at.reads[static_cast<size_t>(i)] = at.reads[static_cast<size_t>(i / ratio)];
      }
      at.grain = grain;
    }
    for (int i = begin / grain; i < (begin + part) / grain; ++i) {
      body(at.writes[static_cast<size_t>(i)], at.reads[static_cast<size_t>(i)]);
    }
    address += static_cast<uint64_t>(part);
    bytes -= part;
  }
}

Shadow::Conflict Shadow::touch(uint64_t address, int bytes, bool write, const Access& access, bool across_blocks,
                               Access& other) {
  Conflict conflict = Conflict::none;
  auto found = [&](Conflict kind, const Cell& cell) {
    if (conflict != Conflict::none) return;
    conflict = kind;
    other = {cell.block, cell.thread & (kAnywhere - 1), cell.epoch, cell.warp_epoch, cell.pc & ~kHeld};
  };
  // Ordered before this access, as a single thread's.
  auto ordered = [&](const Cell& cell) {
    if (cell.block == 0) return true;
    if (cell.block != access.block) return !across_blocks;
    if (cell.epoch != access.epoch) return true;
    if (cell.thread & kAnywhere) return false;
    if (warp_of(cell.thread) == warp_of(access.thread) && cell.warp_epoch != access.warp_epoch) return true;
    return cell.thread == access.thread;
  };
  const Cell now{access.block, access.thread, access.epoch, access.warp_epoch, access.pc};
  groups(address, bytes, [&](Cell& written, Cell& read) {
    if ((written.pc & kHeld) && written.block == access.block) found(Conflict::copy_in_flight, written);
    if (!ordered(written)) found(Conflict::race, written);
    if (write) {
      if (!ordered(read)) found(Conflict::race, read);
      written = now;
      return;
    }
    if (across_blocks && read.block != 0 && read.block != access.block) {
      read.block = kManyBlocks;
    } else if (ordered(read)) {
      read = now;
    } else {
      read.thread |= warp_of(read.thread) == warp_of(access.thread) ? kSeveral : kAnywhere;
    }
  });
  return conflict;
}

void Shadow::hold(uint64_t address, int bytes, const Access& access) {
  groups(address, bytes, [&](Cell& written, Cell&) {
    written = {access.block, access.thread, access.epoch, access.warp_epoch, access.pc | kHeld};
  });
}

void Shadow::settle(uint64_t address, int bytes, const Access& access) {
  groups(address, bytes, [&](Cell& written, Cell&) {
    written = {access.block, access.thread, access.epoch, access.warp_epoch, access.pc};
  });
}

}  // namespace lowrank::test::ptx
