// What tests of the PTX interpreter share: memory that kernels may touch, arguments, and PTX from files or put
// together.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "backends/cuda/ptx/ptx.h"
#include "check.h"
#include "core/dtype.h"

namespace lowrank::test::ptx {

/// Arguments one after the other, each aligned to its size.
class Arguments {
 public:
  template <class... T>
  explicit Arguments(const T&... values) {
    (add(values), ...);
  }
  operator std::span<const std::byte>() const { return bytes_; }

 private:
  template <class T>
  void add(const T& value) {
    const size_t at = (bytes_.size() + sizeof value - 1) / sizeof value * sizeof value;
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  std::vector<std::byte> bytes_;
};

/// An allocation of a Memory, aligned as a driver aligns. Not empty.
template <class T>
class Array {
 public:
  Array(Memory& memory, size_t count, T value = {}) : storage_(count * sizeof(T) + 512), count_(count) {
    const auto begin = reinterpret_cast<uintptr_t>(storage_.data());
    at_ = reinterpret_cast<T*>((begin + 255) / 256 * 256);
    std::fill_n(at_, count, value);
    memory.add(at_, static_cast<int64_t>(count * sizeof(T)));
  }
  T* data() const { return at_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return at_[i]; }

 private:
  std::vector<std::byte> storage_;
  size_t count_;
  T* at_;
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// PTX that Triton made (triton/make.py).
inline std::string triton_text(const std::string& name) {
  return read_text(std::filesystem::path(LOWRANK_TRITON_FOLDER) / (name + ".ptx"));
}

/// `text` with its n-th `from` changed to `to`; n = 0 changes all.
inline std::string changed(std::string text, const std::string& from, const std::string& to, int n = 0) {
  int found = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    ++found;
    const bool changes = n == 0 || n == found;
    if (changes) text.replace(at, from.size(), to);
    at += changes ? to.size() : from.size();
  }
  if (found < std::max(n, 1)) throw std::runtime_error("the text has no such '" + from + "'");
  return text;
}

/// The kind of fault that body ends in, or "none".
template <class Body>
std::string fault_of(Body body) {
  try {
    body();
  } catch (const Fault& fault) {
    return fault.kind;
  }
  return "none";
}

}  // namespace lowrank::test::ptx
