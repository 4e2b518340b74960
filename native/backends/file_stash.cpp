#include "backends/file_stash.h"

namespace lowrank {

void FileStash::put(int64_t offset, Ptr<std::byte> from, int64_t bytes) {
  if (const std::byte* const shared = memory_.shared(from)) return file_.write(shared, bytes, offset);
  room_.resize(static_cast<size_t>(bytes));
  memory_.download(room_.data(), from, bytes, "stash");
  file_.write(room_.data(), bytes, offset);
}

void FileStash::fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) {
  if (std::byte* const shared = memory_.shared(to)) return file_.read(shared, bytes, offset);
  room_.resize(static_cast<size_t>(bytes));
  file_.read(room_.data(), bytes, offset);
  memory_.upload(to, room_.data(), bytes);
}

}  // namespace lowrank
