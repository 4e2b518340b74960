// Reads the tensors of safetensors files that the parity scripts wrote. A test's reader of trusted files: it knows the
// one spelling of the header that the safetensors library writes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace lowrank::test {

inline std::string parity_path(const std::string& relative) {
  // Set where the tests were built on another machine.
  const char* moved = std::getenv("LOWRANK_PARITY_FOLDER");
  return (std::filesystem::path(moved != nullptr ? moved : LOWRANK_PARITY_FOLDER) / relative).string();
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct GoldenTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // in the file
  int64_t bytes = 0;
};

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& relative) : path_(parity_path(relative)), content_(read_text(path_)) {
    uint64_t header_bytes;
    std::memcpy(&header_bytes, content_.data(), sizeof header_bytes);
    const std::string header = content_.substr(8, header_bytes);
    // "NAME":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}
    const std::string mark = "\":{\"dtype\":\"";
    for (size_t at = header.find(mark); at != std::string::npos; at = header.find(mark, at + 1)) {
      const size_t name = header.rfind('"', at - 1) + 1;
      const size_t dtype = at + mark.size();
      GoldenTensor tensor;
      tensor.dtype = header.substr(dtype, header.find('"', dtype) - dtype);
      tensor.shape = numbers(header, header.find('[', at));
      const std::vector<int64_t> range = numbers(header, header.find("\"data_offsets\":[", at) + 15);
      tensor.offset = 8 + static_cast<int64_t>(header_bytes) + range.at(0);
      tensor.bytes = range.at(1) - range.at(0);
      tensors_[header.substr(name, at - name)] = tensor;
    }
    if (tensors_.empty()) throw std::runtime_error("no tensors in " + path_);
  }

  const std::string& path() const { return path_; }
  const std::map<std::string, GoldenTensor>& tensors() const { return tensors_; }

  const GoldenTensor& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::runtime_error("no tensor " + name + " in " + path_);
    return found->second;
  }

  /// The elements as they lie in the file.
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const GoldenTensor& tensor = at(name);
    std::vector<T> out(static_cast<size_t>(tensor.bytes) / sizeof(T));
    std::memcpy(out.data(), content_.data() + tensor.offset, out.size() * sizeof(T));
    return out;
  }

 private:
  /// The numbers of the list that opens at `at`.
  static std::vector<int64_t> numbers(const std::string& text, size_t at) {
    std::vector<int64_t> result;
    while (text.at(at) != ']') {
      if (text.at(++at) == ']') break;
      result.push_back(std::stoll(text.substr(at, 20)));
      at = text.find_first_of(",]", at);
    }
    return result;
  }

  std::string path_;
  std::string content_;
  std::map<std::string, GoldenTensor> tensors_;
};

}  // namespace lowrank::test
