// A mapped file reads as the file does, whatever is done about its pages.
#include "os/mapped_file.h"

#include <cstring>
#include <vector>

#include "check.h"
#include "temporary_file.h"

using namespace lowrank;

TEST("a mapped file has the bytes of the file") {
  const std::vector<uint8_t> content = test::counted(3 * 4096 + 5);
  const test::TemporaryFile written(content);
  const os::MappedFile file(written.path());
  CHECK_EQ(file.bytes(), static_cast<int64_t>(content.size()));
  CHECK(std::memcmp(file.data(), content.data(), content.size()) == 0);
}

TEST("an empty file and a missing one are not mapped") {
  const test::TemporaryFile empty(std::vector<uint8_t>{});
  CHECK_THROWS(os::MappedFile(empty.path()), "is empty");
  CHECK_THROWS(os::MappedFile("/no/such/model.weights"), "/no/such/model.weights cannot be opened: ");
}

TEST("a mapped file reads the same after its pages were asked for, loaded and dropped") {
  const int64_t page = os::page_bytes();
  const std::vector<uint8_t> content = test::counted(100 * page - 7);
  const test::TemporaryFile written(content);
  const os::MappedFile file(written.path());
  const auto whole = [&] { return std::memcmp(file.data(), content.data(), content.size()) == 0; };
  file.prefetch();
  CHECK(whole());
  file.expect_no_order();
  file.will_need(3 * page + 1, 10 * page);
  file.load(0, file.bytes());
  CHECK(whole());
  file.drop(page + 1, 50 * page);
  file.drop(0, file.bytes());
  CHECK(whole());
  file.expect_whole();
  CHECK(file.resident_bytes() == -1 || file.resident_bytes() > 0);
}
