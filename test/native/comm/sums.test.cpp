#include "comm/sums.h"

#include <cmath>
#include <mutex>

#include "check.h"
#include "comm/alone.h"
#include "comm/sum.h"
#include "comm/threads.h"

using namespace lowrank;

namespace {

std::vector<float> numbers(int rank, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(std::sin(static_cast<float>(i * 5 + rank * 11)) *
                     std::pow(10.0f, static_cast<float>((i + rank) % 7)));
  return values;
}

}  // namespace

TEST("sums on a thread of their own have the bits of those made at once") {
  for (const bool beside : {true, false}) {
    std::mutex one;
    on_ranks(
        3,
        [&](Comm& comm) {
          Sums sums(comm);
          for (int round = 0; round < 3; ++round) {
            std::vector<std::vector<float>> own, expected;
            for (const int64_t count : {int64_t{5}, int64_t{300'000}, int64_t{1}}) {
              own.push_back(numbers(comm.rank(), count));
              expected.push_back(own.back());
            }
            for (std::vector<float>& values : own) sums.add(values.data(), static_cast<int64_t>(values.size()));
            CHECK_EQ(sums.added(), int64_t{3});
            // Calls of this thread do not meet those of the other.
            for (std::vector<float>& values : expected)
              sum_over_ranks(comm, values.data(), static_cast<int64_t>(values.size()));
            sums.wait();
            CHECK_EQ(sums.added(), int64_t{0});
            const std::lock_guard lock(one);
            CHECK(own == expected);
          }
        },
        beside);
  }
}

TEST("ranks that failed at different places of a step complete what the others began") {
  for (const bool beside : {true, false})
    on_ranks(
        3,
        [&](Comm& comm) {
          Sums sums(comm);
          std::vector<float> whole(1000, 1), parts(4000, 1);
          sums.add(whole.data(), 1000);
          sums.wait();
          // The first fails before its first sum, the second in between.
          for (int i = 0; i < 2 * comm.rank(); ++i) sums.add(parts.data() + i * 1000, 1000 - i);
          sums.settle();
          CHECK_EQ(whole[0], 3.0f);
          if (comm.rank() == 2) CHECK_EQ(parts[0], 2.0f);
        },
        beside);
}

TEST("a process alone has nothing to add up") {
  Alone alone;
  Sums sums(alone);
  float value = 5;
  sums.add(&value, 1);
  CHECK_EQ(sums.added(), int64_t{0});
  sums.wait();
  sums.settle();
  CHECK_EQ(value, 5.0f);
}
