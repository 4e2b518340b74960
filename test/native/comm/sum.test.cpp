#include "comm/sum.h"

#include <cmath>
#include <mutex>
#include <string>

#include "check.h"
#include "comm/alone.h"
#include "comm/meet.h"
#include "comm/threads.h"

using namespace lowrank;

namespace {

/// Numbers of a rank whose sum depends on its order.
float number_of(int rank, int64_t i) {
  return std::sin(static_cast<float>(i * 7 + rank * 13)) * std::pow(10.0f, static_cast<float>((i + rank) % 7));
}

}  // namespace

TEST("sums over ranks are those in the order of ranks, bit by bit, on all ranks") {
  for (const int size : {1, 2, 3, 5})
    for (const int64_t count : {int64_t{1}, int64_t{7}, int64_t{300'001}}) {
      std::mutex one;
      on_ranks(size, [&](Comm& comm) {
        std::vector<float> values;
        for (int64_t i = 0; i < count; ++i) values.push_back(number_of(comm.rank(), i));
        sum_over_ranks(comm, values.data(), count);
        const std::lock_guard lock(one);
        for (int64_t i = 0; i < count; ++i) {
          float expected = number_of(0, i);
          for (int rank = 1; rank < size; ++rank) expected += number_of(rank, i);
          CHECK_EQ(values[static_cast<size_t>(i)], expected);
        }
      });
    }
}

TEST("what ranks say arrives whole and in order, be it short or long") {
  std::mutex one;
  on_ranks(3, [&](Comm& comm) {
    for (const size_t length : {size_t{0}, size_t{1016}, size_t{1017}, size_t{100'000}}) {
      // The others say something short.
      const std::vector<uint8_t> own(comm.rank() == 1 ? length : 3, static_cast<uint8_t>('a' + comm.rank()));
      const std::vector<std::vector<uint8_t>> said = meet(comm, own);
      const std::lock_guard lock(one);
      CHECK_EQ(said.size(), size_t{3});
      for (size_t rank = 0; rank < 3; ++rank)
        CHECK(said[rank] == std::vector<uint8_t>(rank == 1 ? length : 3, static_cast<uint8_t>('a' + rank)));
    }
  });
}

TEST("a process alone hears itself") {
  Alone alone;
  CHECK((meet(alone, {1, 2, 3}) == std::vector<std::vector<uint8_t>>{{1, 2, 3}}));
  CHECK_EQ(sum_bytes(1), int64_t{0});
}
