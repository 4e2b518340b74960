// A file with given bytes, and a folder, that are gone when the test is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank::test {

/// Bytes that differ from their neighbors, and from page to page.
std::vector<uint8_t> counted(int64_t bytes);

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<uint8_t>& bytes);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lowrank::test
