// The checks themselves: a comparison that cannot fail would make every other test worthless.
#include "check.h"

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using lowrank::test::is_at_most;
using lowrank::test::is_close;
using lowrank::test::is_equal;
using lowrank::test::relative_error;

TEST("integers of different types compare by value") {
  CHECK(is_equal(std::int64_t{4}, std::uint8_t{4}));
  CHECK(!is_equal(-1, ~0u));
  CHECK(!is_equal(std::uint8_t{1}, 257));
  CHECK(is_at_most(-1, 0u));
  CHECK(!is_at_most(~0u, -1));
  CHECK(!is_at_most(std::int64_t{1} << 40, std::int32_t{7}));
}

TEST("closeness is relative to the larger magnitude") {
  CHECK(is_close(1000.0, 1000.9, 1e-3));
  CHECK(!is_close(1000.0, 1001.1, 1e-3));
  CHECK(is_close(-2e-30, -2e-30, 0));
  CHECK(!is_close(1e-30, -1e-30, 0.5));
}

TEST("NaN is close to nothing and infinity only to itself") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(!is_close(nan, nan, 1));
  CHECK(!is_close(0, nan, 1));
  CHECK(is_close(infinity, infinity, 0));
  CHECK(!is_close(infinity, -infinity, 1));
  CHECK(!is_close(infinity, 1, 1));
}

TEST("relative error is the norm of the difference over the norm of the expected values") {
  CHECK_CLOSE(relative_error(std::vector<float>{3, 4}, std::vector<float>{0, 5}), std::sqrt(10.0) / 5, 1e-15);
  CHECK_EQ(relative_error(std::vector<float>{0, 0}, std::vector<float>{0, 0}), 0.0);
}

TEST("relative error is too large for any limit when a value is NaN, a size differs or only zeros are expected") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto within = [](double error) { return error <= 1e30; };
  CHECK(!within(relative_error(std::vector<float>{1, nan}, std::vector<float>{1, 2})));
  CHECK(!within(relative_error(std::vector<float>{1, 2}, std::vector<float>{1, nan})));
  CHECK(!within(relative_error(std::vector<float>{1}, std::vector<float>{1, 2})));
  CHECK(!within(relative_error(std::vector<float>{1, 1}, std::vector<float>{0, 0})));
}

TEST("an expected exception is recognized by a part of its message") {
  CHECK_THROWS(throw std::runtime_error("rank is 0, expected 1 or more"), "rank is 0");
}
