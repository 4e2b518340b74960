// All memory of a model, an adapter, or a run is allocated here, under one of the categories shown by `lowrank plan`.
// Pages come zeroed from the operating system and are returned to it when the block is destroyed.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>

#include "core/lists.h"

namespace lowrank {

inline constexpr int kPlaces = static_cast<int>(std::size(kPlaceNames));
inline constexpr int kCategories = static_cast<int>(std::size(kCategoryNames));

/// Bytes currently allocated in this process under a category, in one kind of memory or in all.
int64_t allocated_bytes(Category category, Place place);
int64_t allocated_bytes(Category category);
/// Advice for reducing the memory of a category.
const char* remedy_of(Category category);

/// Counts bytes under a category for its lifetime.
class Claim {
 public:
  Claim() = default;
  Claim(Category category, int64_t bytes, Place place = Place::host);
  Claim(Claim&& other) noexcept { swap(other); }
  Claim& operator=(Claim&& other) noexcept {
    Claim taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Claim();

 private:
  void swap(Claim& other) noexcept {
    std::swap(category_, other.category_);
    std::swap(place_, other.place_);
    std::swap(bytes_, other.bytes_);
  }
  Category category_ = Category::workspace;
  Place place_ = Place::host;
  int64_t bytes_ = 0;
};

/// An owned, page-aligned, zero-initialized block. Throws Error("OUT_OF_MEMORY") naming category and bytes.
class Block {
 public:
  Block() = default;
  Block(Category category, int64_t bytes);
  /// Bytes stored elsewhere, such as in a mapped file, valid as long as `owner` lives. They are read-only and counted
  /// by their owner.
  Block(const void* data, int64_t bytes, std::shared_ptr<const void> owner);
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
  /// Zeroes the block by returning its pages to the system, which zeroes them when touched.
  void clear();
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void swap(Block& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(claim_, other.claim_);
    std::swap(owner_, other.owner_);
  }
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Claim claim_;
  std::shared_ptr<const void> owner_;  // owner of bytes that are not this block's own
};

}  // namespace lowrank
