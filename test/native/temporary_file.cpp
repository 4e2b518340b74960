#include "temporary_file.h"

#include <fstream>
#include <random>
#include <stdexcept>

namespace lowrank::test {
namespace {

std::filesystem::path temporary_path() {
  std::random_device random;
  const std::string name = "lowrank-test-" + std::to_string(random()) + '-' + std::to_string(random());
  return std::filesystem::temp_directory_path() / name;
}

}  // namespace

std::vector<uint8_t> counted(int64_t bytes) {
  std::vector<uint8_t> content(static_cast<size_t>(bytes));
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<uint8_t>(i / 4096 + i);
  return content;
}

TemporaryFile::TemporaryFile(const std::vector<uint8_t>& bytes) {
  path_ = temporary_path().string();
  std::ofstream file(path_, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path_);
}

TemporaryFile::~TemporaryFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

TemporaryFolder::TemporaryFolder() : path_(temporary_path()) { std::filesystem::create_directory(path_); }

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace lowrank::test
