// Who touched each byte last, to find accesses that nothing orders.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace lowrank::test::ptx {

/// A thread's access: two of one byte, one of them a write, must be ordered by a barrier of the block or of the warp.
struct Access {
  uint32_t block = 0;   // in the order of execution, from 1
  uint32_t thread = 0;  // of the block
  uint32_t epoch = 0;   // barriers that the block passed
  uint32_t warp_epoch = 0;
  uint32_t pc = 0;
};

/// Bytes are grouped while all accesses cover the same groups, so that an access of 16 bytes is looked up once.
class Shadow {
 public:
  enum class Conflict : uint8_t { none, race, copy_in_flight };

  /// Notes an access and says what it conflicts with; `other` is then the earlier one.
  Conflict touch(uint64_t address, int bytes, bool write, const Access& access, bool across_blocks, Access& other);
  /// A write that ends later: until settle(), any access of the bytes conflicts.
  void hold(uint64_t address, int bytes, const Access& access);
  void settle(uint64_t address, int bytes, const Access& access);
  void clear() { pages_.clear(), last_page_ = ~uint64_t{}; }

 private:
  static constexpr int kLineBytes = 16, kPageLines = 64;
  struct Cell {
    uint32_t block = 0;
    uint32_t thread = 0;  // or one of the values below
    uint32_t epoch = 0, warp_epoch = 0, pc = 0;
  };
  struct Line {
    int grain = kLineBytes;  // bytes of a group
    std::array<Cell, kLineBytes> writes{}, reads{};
  };
  using Page = std::array<Line, kPageLines>;

  Line& line(uint64_t number);
  template <class Body>
  void groups(uint64_t address, int bytes, Body body);

  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  uint64_t last_page_ = ~uint64_t{};
  Page* last_ = nullptr;
};

}  // namespace lowrank::test::ptx
