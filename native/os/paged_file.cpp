#include "os/paged_file.h"

#include "core/error.h"

namespace lowrank::os {

PagedFile::PagedFile(const std::string& folder, int64_t bytes)
    : bytes_(bytes), writer_(NewFile::nameless(folder, bytes)), reader_(std::make_unique<File>(*writer_)) {
  if (reader_->lives_in_memory())
    fail("CONFIG", folder, " is in memory (tmpfs), so a file there would save no memory; choose another folder");
  reader_->expect_no_order();
}

void PagedFile::read(void* out, int64_t bytes, int64_t offset) const {
  reader_->read(out, bytes, offset);
  reader_->drop(offset, bytes);
}

void PagedFile::write(const void* data, int64_t bytes, int64_t offset) {
  writer_->write(data, bytes, offset);
  writer_->begin_to_put_away(offset, bytes);
  settle();
  last_offset_ = offset;
  last_bytes_ = bytes;
}

void PagedFile::settle() {
  if (last_bytes_ > 0) writer_->put_away(last_offset_, last_bytes_);
  last_bytes_ = 0;
}

}  // namespace lowrank::os
