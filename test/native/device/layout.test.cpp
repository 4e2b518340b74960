#include "device/layout.h"

#include "check.h"

using namespace lowrank;

TEST("a layout counts the most that is in use at a time") {
  Layout room;
  room.take<float>(10);  // 64 bytes
  {
    const Layout::Scope scope(room);
    room.take<double>(16);  // 128
    room.rest(1);           // 64
  }
  room.rest(100);  // 128, where the scope was
  CHECK_EQ(room.bytes(), 64 + 128 + 64);
}

TEST("a layout hands out the addresses that it counted, and no more than there is") {
  Layout room(Ptr<std::byte>(4096), 192);
  CHECK_EQ(room.take<float>(10).address(), uint64_t{4096});
  CHECK_EQ(room.rest(128).address(), uint64_t{4096 + 64});
  CHECK_EQ(room.rest(1).address(), uint64_t{4096 + 64});
  CHECK_THROWS(room.rest(129), "asks for 129 bytes of workspace where 128 are left");
}
