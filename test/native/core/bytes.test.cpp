// Sizes in the words of a message.
#include "core/bytes.h"

#include <string>

#include "check.h"

using namespace lowrank;

TEST("sizes are written with the largest unit that they reach") {
  CHECK_EQ(readable(0), std::string("0 B"));
  CHECK_EQ(readable(1023), std::string("1023 B"));
  CHECK_EQ(readable(1536), std::string("1.50 KiB"));
  CHECK_EQ(readable(int64_t{10} << 30), std::string("10.0 GiB"));
  CHECK_EQ(readable(int64_t{3} << 50), std::string("3072.0 TiB"));
}
