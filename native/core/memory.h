// Every byte that belongs to a model, an adapter or a run is allocated here, under one of the categories that users see
// in `lowrank plan`. Pages come zeroed from the operating system and go back to it when the block dies.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace lowrank {

enum class Category : uint8_t {
  weights,
  quantization_constants,
  adapters,
  gradients,
  optimizer,
  activations,
  kv_cache,
  loss,
  workspace,
};
inline constexpr int kCategories = 9;
const char* name_of(Category category);

/// Bytes now allocated in this process under a category.
int64_t allocated_bytes(Category category);

/// An owned, page-aligned, zero-initialised block. Throws Error("OUT_OF_MEMORY") naming category and bytes.
class Block {
 public:
  Block() = default;
  Block(Category category, int64_t bytes);
  Block(Block&& other) noexcept { swap(other); }
  Block& operator=(Block&& other) noexcept {
    Block taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Block();

  template <class T = std::byte>
  T* data() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void swap(Block& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(category_, other.category_);
  }
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Category category_ = Category::workspace;
};

}  // namespace lowrank
