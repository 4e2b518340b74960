#include "comm/meet.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace lowrank {
namespace {

/// Most messages fit into what is sent first, behind their length.
constexpr int64_t kFirst = 1024;

/// Bytes of every rank in pieces of one size.
std::vector<uint8_t> gathered(Collective& comm, std::vector<uint8_t> own, int64_t bytes) {
  own.resize(static_cast<size_t>(bytes));
  std::vector<uint8_t> all(static_cast<size_t>(bytes * comm.size()));
  comm.gather(own.data(), all.data(), bytes);
  return all;
}

}  // namespace

std::vector<std::vector<uint8_t>> meet(Collective& comm, const std::vector<uint8_t>& own) {
  const auto length = static_cast<int64_t>(own.size());
  constexpr auto kLength = static_cast<int64_t>(sizeof(length));
  std::vector<uint8_t> first(static_cast<size_t>(kLength));
  std::memcpy(first.data(), &length, sizeof(length));
  first.insert(first.end(), own.begin(), own.begin() + std::min(length, kFirst - kLength));
  const std::vector<uint8_t> firsts = gathered(comm, std::move(first), kFirst);
  std::vector<int64_t> lengths;
  for (int rank = 0; rank < comm.size(); ++rank)
    std::memcpy(&lengths.emplace_back(), firsts.data() + rank * kFirst, sizeof(int64_t));
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const bool fits = longest <= kFirst - kLength;
  const std::vector<uint8_t> wholes = fits ? firsts : gathered(comm, own, longest);
  std::vector<std::vector<uint8_t>> said;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto begin = wholes.begin() + (fits ? rank * kFirst + kLength : rank * longest);
    said.emplace_back(begin, begin + lengths[static_cast<size_t>(rank)]);
  }
  return said;
}

}  // namespace lowrank
