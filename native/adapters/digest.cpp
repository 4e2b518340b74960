#include "adapters/digest.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace lowrank {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements

uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 32;
}

uint64_t of_block(const float* values, int64_t count) {
  uint64_t hash = static_cast<uint64_t>(count);
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    hash = mixed(hash, bits);
  }
  return hash;
}

}  // namespace

uint64_t digest_of(Pool& pool, Adapter& adapter) {
  const int64_t count = adapter.spec().elements;
  const HostView<const float> values(adapter.memory(), adapter.span(AdapterArray::value), count, "values");
  std::vector<uint64_t> blocks(static_cast<size_t>((count + kBlock - 1) / kBlock));
  pool.for_range(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block)
      blocks[static_cast<size_t>(block)] =
          of_block(values.data() + block * kBlock, std::min(kBlock, count - block * kBlock));
  });
  uint64_t hash = static_cast<uint64_t>(count);
  for (const uint64_t block : blocks) hash = mixed(hash, block);
  return hash;
}

}  // namespace lowrank
