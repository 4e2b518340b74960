// Wavefronts of shared memory and sectors of global memory, as cards count them.
#include <algorithm>

#include "backends/cuda/ptx/machine.h"

namespace lowrank::test::ptx {
namespace {

constexpr uint64_t kBanks = 32, kBankBytes = 4, kSectorBytes = 32;

/// Numbers of the units of `unit` bytes that the lanes touch, each once and in order.
size_t units(const uint64_t* addresses, uint32_t lanes, int bytes, uint64_t unit, std::array<uint64_t, 512>& found) {
  size_t count = 0;
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const uint64_t address = addresses[__builtin_ctz(rest)];
    for (uint64_t at = address / unit; at <= (address + static_cast<uint64_t>(bytes) - 1) / unit; ++at)
      found[count++] = at;
  }
  std::sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(count));
  return static_cast<size_t>(std::unique(found.begin(), found.begin() + static_cast<ptrdiff_t>(count)) - found.begin());
}

}  // namespace

void Block::note(const Warp& warp, Space space, const uint64_t* addresses, uint32_t lanes, int bytes, bool store) {
  if (space == Space::generic) {
    const uint64_t window = addresses[__builtin_ctz(lanes)] >> 56 << 56;
    space = window == 0 ? Space::global : window == kSharedWindow ? Space::shared : Space::generic;
  }
  Traffic& to = launch.traffic[warp.pc];
  std::array<uint64_t, 512> found;
  if (space == Space::global) {
    ++to.requests;
    to.stores_global |= store;
    to.sectors += static_cast<int64_t>(units(addresses, lanes, bytes, kSectorBytes, found));
    // Bytes in units of the access, which is aligned to its size.
    const size_t distinct = units(addresses, lanes, bytes, static_cast<uint64_t>(bytes), found);
    to.least_sectors += static_cast<int64_t>((distinct * static_cast<size_t>(bytes) + kSectorBytes - 1) / kSectorBytes);
  } else if (space == Space::shared) {
    ++to.requests;
    to.stores_shared |= store;
    // Wider accesses take a half or a quarter of the warp at a time.
    const uint32_t part = bytes <= 4 ? kAllLanes : bytes == 8 ? 0xffffu : 0xffu;
    const int step = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
    for (int first = 0; first < kLanes; first += step) {
      const uint32_t together = lanes & part << first;
      if (together == 0) continue;
      const size_t words = units(addresses, together, bytes, kBankBytes, found);
      std::array<int, kBanks> by_bank{};
      for (size_t k = 0; k < words; ++k) ++by_bank[found[k] % kBanks];
      to.wavefronts += *std::max_element(by_bank.begin(), by_bank.end());
      to.least_wavefronts += static_cast<int64_t>((words + kBanks - 1) / kBanks);
    }
  }
}

}  // namespace lowrank::test::ptx
