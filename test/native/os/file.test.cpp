// Files are read to the byte or not at all, and memory that was given back is gone.
#include "os/file.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "check.h"
#include "core/memory.h"
#include "os/process_memory.h"
#include "temporary_file.h"

using namespace lowrank;

TEST("a file is read at any offset and refused past its end") {
  const test::TemporaryFile written(std::vector<uint8_t>{0, 1, 2, 3, 4, 5, 6, 7});
  const os::File file(written.path());
  CHECK_EQ(file.size(), 8);
  uint8_t bytes[4];
  file.read(bytes, 4, 3);
  CHECK_EQ(bytes[0], 3);
  CHECK_EQ(bytes[3], 6);
  CHECK_THROWS(file.read(bytes, 4, 5), "expected 4 bytes at offset 5, found 3");
}

TEST("a missing file is named with the reason") {
  CHECK_THROWS(os::File("/no/such/model.safetensors"), "/no/such/model.safetensors cannot be opened: ");
}

TEST("a nameless file is read where it was written and leaves nothing in its folder") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "lowrank-nameless";
  std::filesystem::create_directory(folder);
  {
    const auto written = os::NewFile::nameless(folder.string(), 4096);
    const os::File file(*written);
    const uint8_t bytes[] = {1, 2, 3};
    written->write(bytes, 3, 4000);
    uint8_t found[4] = {};
    file.read(found, 4, 3999);
    CHECK_EQ(found[0], 0);
    CHECK_EQ(found[3], 3);
    CHECK_EQ(file.size(), 4096);
  }
  CHECK(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

TEST("the resident set grows with touched memory and its peak can be reset") {
  const os::ResidentMemory before = os::resident_memory();
  CHECK(before.resident > 0);
  CHECK(before.peak >= before.resident);
  {
    Block touched(Category::workspace, int64_t{64} << 20);
    std::memset(touched.data(), 1, touched.bytes());
    CHECK(os::resident_memory().anonymous >= before.anonymous + touched.bytes() / 2);
    touched.clear();
    CHECK(os::resident_memory().anonymous < before.anonymous + touched.bytes() / 2);
    CHECK_EQ(touched.data<uint8_t>()[touched.bytes() / 2], 0);
  }
  const os::ResidentMemory after = os::resident_memory();
  CHECK(after.peak >= before.resident + (32 << 20));
  if (!os::reset_peak_resident()) SKIP("this system does not let the peak be reset");
  CHECK(os::resident_memory().peak < after.peak);
}

TEST("memory that was freed behind memory in use goes back to the system") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("a sanitizer has an allocator of its own, which gives nothing back on request");
#endif
  // The last piece keeps the allocator from shrinking its heap by itself.
  std::vector<std::unique_ptr<char[]>> pieces(8192);
  for (auto& piece : pieces) {
    piece = std::make_unique<char[]>(4096);
    std::memset(piece.get(), 1, 4096);
  }
  for (size_t i = 0; i + 1 < pieces.size(); ++i) pieces[i].reset();
  const int64_t before = os::resident_memory().anonymous;
  os::trim_heap();
  if (os::resident_memory().anonymous == before) SKIP("this allocator gives nothing back on request");
  CHECK_LE(os::resident_memory().anonymous, before - (16 << 20));
}
