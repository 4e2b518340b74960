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

TEST("pages within a range are whole ones, and pages across it all that it reaches into") {
  const int64_t page = os::page_bytes(), size = 10 * page - 7;
  const auto within = [&](int64_t offset, int64_t bytes) {
    const os::PageRange pages = os::pages_within(offset, bytes, size);
    return std::vector<int64_t>{pages.begin / page, pages.end / page, pages.begin % page, pages.end % page};
  };
  const auto across = [&](int64_t offset, int64_t bytes) {
    const os::PageRange pages = os::pages_across(offset, bytes);
    return std::vector<int64_t>{pages.begin / page, pages.end / page, pages.begin % page, pages.end % page};
  };
  using Pages = std::vector<int64_t>;
  CHECK(within(page, 2 * page) == (Pages{1, 3, 0, 0}));
  CHECK(within(page + 1, 2 * page) == (Pages{2, 3, 0, 0}));
  CHECK(within(page - 1, 2 * page) == (Pages{1, 2, 0, 0}));
  CHECK(within(page + 1, page) == (Pages{2, 2, 0, 0}));
  // The last page of the file is whole, however short.
  CHECK(within(8 * page, size - 8 * page) == (Pages{8, 10, 0, 0}));
  CHECK(within(8 * page, size - 8 * page - 1) == (Pages{8, 9, 0, 0}));
  CHECK(across(page, 2 * page) == (Pages{1, 3, 0, 0}));
  CHECK(across(page - 1, 2) == (Pages{0, 2, 0, 0}));
  CHECK(across(page + 1, 1) == (Pages{1, 2, 0, 0}));
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
