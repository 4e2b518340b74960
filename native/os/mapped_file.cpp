#include "os/mapped_file.h"

#include <algorithm>

namespace lowrank::os {

PageRange pages_within(int64_t offset, int64_t bytes, int64_t size) {
  const int64_t page = page_bytes();
  const int64_t begin = (offset + page - 1) / page * page;
  const int64_t end = (offset + bytes == size ? size + page - 1 : offset + bytes) / page * page;
  return {begin, std::max(begin, end)};
}

PageRange pages_across(int64_t offset, int64_t bytes) {
  const int64_t page = page_bytes();
  return {offset / page * page, (offset + bytes + page - 1) / page * page};
}

void MappedFile::touch(int64_t offset, int64_t bytes) const {
  const PageRange pages = pages_across(offset, bytes);
  for (int64_t at = pages.begin; at < pages.end; at += page_bytes()) [[maybe_unused]]
    const std::byte touched = *static_cast<const volatile std::byte*>(data_ + at);
}

}  // namespace lowrank::os
