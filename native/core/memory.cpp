#include "core/memory.h"

#include "core/bytes.h"
#include "core/error.h"
#include "core/system.h"

namespace lowrank {
namespace {

std::array<std::array<std::atomic<int64_t>, kPlaces>, kCategories> g_allocated{};

std::atomic<int64_t>& count_of(Category category, Place place) {
  return g_allocated[static_cast<int>(category)][static_cast<int>(place)];
}

}  // namespace

// Settings that may be on already are not named; `lowrank plan --fit` knows them.
const char* remedy_of(Category category) {
  switch (category) {
    case Category::weights:
    case Category::quantization_constants:
      return "Hold the model in fewer bits (quantization), or take a smaller one.";
    case Category::adapters:
    case Category::gradients:
    case Category::optimizer:
      return "Lower the rank of the adapter, or adapt fewer modules.";
    case Category::kv_cache:
      return "Lower the number of tokens in the context.";
    default:
      return "Lower max_seq_length or per_device_train_batch_size; `lowrank plan CONFIG --fit SIZE` finds settings "
             "that fit.";
  }
}

int64_t allocated_bytes(Category category, Place place) { return count_of(category, place).load(); }
int64_t allocated_bytes(Category category) {
  int64_t bytes = 0;
  for (int place = 0; place < kPlaces; ++place) bytes += allocated_bytes(category, static_cast<Place>(place));
  return bytes;
}

Claim::Claim(Category category, int64_t bytes, Place place) : category_(category), place_(place), bytes_(bytes) {
  count_of(category_, place_) += bytes_;
}

Claim::~Claim() { count_of(category_, place_) -= bytes_; }

Block::Block(Category category, int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  // Pages rather than malloc: exact bytes, zeroed lazily, and returned to the system at once.
  void* data = system::map_zeros(bytes);
  if (data == nullptr) {
    fail("OUT_OF_MEMORY", "The system refused ", readable(bytes), " for ", name_of(category), ". ",
         remedy_of(category));
  }
  data_ = data;
  claim_ = Claim(category, bytes);
}

void Block::clear() {
  if (data_ == nullptr) return;
  if (owner_ != nullptr) fail("INTERNAL", "a block that is not owned cannot be cleared");
  if (!system::clear_zeros(data_, bytes_))
    fail("OUT_OF_MEMORY", "The system refused to clear ", readable(bytes_), ". ", remedy_of(Category::workspace));
}

Block::Block(const void* data, int64_t bytes, std::shared_ptr<const void> owner)
    : data_(const_cast<void*>(data)), bytes_(bytes), owner_(std::move(owner)) {}

Block::~Block() {
  if (data_ != nullptr && owner_ == nullptr) system::unmap_zeros(data_, bytes_);
}

}  // namespace lowrank
