#include "backends/cuda/pack.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace lowrank::cuda {
namespace {

constexpr char kMagic[] = "LOWRCUDA";
constexpr int64_t kHeader = 32, kRow = 64, kMostRows = 1 << 14, kMostBytes = int64_t{64} << 20;

/// Numbers of a row, one after another.
class Reader {
 public:
  explicit Reader(const uint8_t* at) : at_(at) {}
  uint32_t u32() { return static_cast<uint32_t>(number(4)); }
  uint64_t u64() { return number(8); }
  /// Text in a field of `bytes` bytes; empty where it does not end.
  std::string text(int bytes) {
    const auto* const begin = reinterpret_cast<const char*>(at_);
    at_ += bytes;
    const size_t length = strnlen(begin, static_cast<size_t>(bytes));
    return length == static_cast<size_t>(bytes) ? std::string() : std::string(begin, length);
  }

 private:
  static size_t strnlen(const char* text, size_t most) {
    const void* const end = std::memchr(text, 0, most);
    return end == nullptr ? most : static_cast<size_t>(static_cast<const char*>(end) - text);
  }
  uint64_t number(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(*at_++) << (8 * i);
    return value;
  }
  const uint8_t* at_;
};

}  // namespace

uint32_t crc32(const uint8_t* data, int64_t bytes) {
  static constexpr auto kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = (table[i] >> 1) ^ (table[i] & 1 ? 0xedb88320u : 0u);
    }
    return table;
  }();
  uint32_t crc = 0xffffffffu;
  for (int64_t i = 0; i < bytes; ++i) crc = kTable[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

Pack::Pack(const std::string& path, Inflated inflated) : file_(path), inflated_(std::move(inflated)) {
  const int64_t size = file_.size();
  std::array<uint8_t, kHeader> header;
  if (size < kHeader) damaged("it is shorter than its header");
  file_.read(header.data(), kHeader, 0);
  if (std::memcmp(header.data(), kMagic, 8) != 0) damaged("it does not begin as a kernel pack does");
  Reader head(header.data() + 8);
  if (const uint32_t version = head.u32(); version != 1)
    damaged("it is of version " + std::to_string(version) + "; expected 1");
  const int64_t images = head.u32(), kernels = head.u32();
  const uint32_t crc = head.u32();
  if (head.u64() != static_cast<uint64_t>(size)) damaged("it is not as long as its header says");
  if (images > kMostRows || kernels > kMostRows) damaged("it lists too much");
  const int64_t end = kHeader + (images + kernels) * kRow;
  if (end > size) damaged("it is shorter than its lists");
  std::vector<uint8_t> table(static_cast<size_t>(end - kHeader));
  file_.read(table.data(), end - kHeader, kHeader);
  if (crc32(table.data(), end - kHeader) != crc) damaged("the checksum of its lists is wrong");
  for (int64_t i = 0; i < images; ++i) {
    Reader row(table.data() + i * kRow);
    const uint32_t module = row.u32(), sm = row.u32(), kind = row.u32(), sum = row.u32();
    const uint64_t offset = row.u64(), stored = row.u64(), bytes = row.u64();
    std::string name = row.text(24);
    if (module >= kMostRows || sm < 10 || sm > 9999 || kind > 1 || name.empty()) damaged("it lists an image wrongly");
    if (bytes > static_cast<uint64_t>(kMostBytes) || stored > static_cast<uint64_t>(size) || stored > bytes ||
        offset < static_cast<uint64_t>(end) || offset > static_cast<uint64_t>(size) - stored)
      damaged("an image lies outside of it");
    if (module >= modules_.size()) modules_.resize(module + 1);
    modules_[module] = std::move(name);
    rows_.push_back({static_cast<int>(module),
                     static_cast<int>(sm),
                     kind == 1,
                     sum,
                     {static_cast<int64_t>(offset), static_cast<int64_t>(stored), static_cast<int64_t>(bytes)}});
  }
  for (int64_t i = images; i < images + kernels; ++i) {
    Reader row(table.data() + i * kRow);
    std::string name = row.text(60);
    const uint32_t module = row.u32();
    if (name.empty() || module >= modules_.size()) damaged("it lists a kernel wrongly");
    kernels_.push_back({std::move(name), static_cast<int>(module)});
  }
  std::sort(kernels_.begin(), kernels_.end(), [](const Kernel& a, const Kernel& b) { return a.name < b.name; });
}

void Pack::damaged(const std::string& what) const {
  fail("FILE_FORMAT", file_.path(), " is damaged: ", what, ". Install the package again.");
}

int Pack::module_of(std::string_view kernel) const {
  const auto found = std::lower_bound(kernels_.begin(), kernels_.end(), kernel,
                                      [](const Kernel& each, std::string_view name) { return each.name < name; });
  return found == kernels_.end() || found->name != kernel ? -1 : found->module;
}

const Pack::Row* Pack::best(int module, int sm) const {
  const Row* best = nullptr;
  const auto fits = [&](const Row& row) {
    return row.module == module && row.sm <= sm && (row.ptx || row.sm / 10 == sm / 10);
  };
  for (const Row& row : rows_) {
    if (!fits(row)) continue;
    if (best == nullptr || (row.ptx != best->ptx ? best->ptx : row.sm > best->sm)) best = &row;
  }
  return best;
}

bool Pack::runs_on(int sm) const {
  for (int module = 0; module < modules(); ++module)
    if (best(module, sm) == nullptr) return false;
  return modules() > 0;
}

std::vector<Pack::Stored> Pack::compressed(int sm) const {
  std::vector<Stored> found;
  for (int module = 0; module < modules(); ++module)
    if (const Row* const row = best(module, sm); row != nullptr && row->at.stored < row->at.bytes)
      found.push_back(row->at);
  return found;
}

Pack::Image Pack::image(int module, int sm) const {
  const Row* const row = best(module, sm);
  if (row == nullptr)
    fail("UNSUPPORTED", file_.path(), " has no code of ", name_of(module), " for compute capability ", sm / 10, ".",
         sm % 10);
  const auto& [offset, stored, bytes] = row->at;
  Image image{row->sm, row->ptx, {}};
  if (stored == bytes) {
    image.bytes.resize(static_cast<size_t>(bytes));
    file_.read(image.bytes.data(), bytes, offset);
  } else if (const auto found = inflated_.find(offset); found != inflated_.end()) {
    image.bytes = found->second;
  } else {
    fail("FILE_FORMAT", file_.path(), " is compressed, and is inflated by Node.js only; scripts/cuda/pack.mjs --raw ",
         "makes one for native programs");
  }
  if (static_cast<int64_t>(image.bytes.size()) != bytes || crc32(image.bytes.data(), bytes) != row->crc)
    damaged("the checksum of " + name_of(module) + " is wrong");
  if (image.ptx) image.bytes.push_back(0);
  return image;
}

}  // namespace lowrank::cuda
