#include "backends/cuda/pack.h"

#include <algorithm>
#include <array>
#include <cstring>

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

[[noreturn]] void broken(const char* why) { fail("FILE_FORMAT", "compressed data is damaged: ", why); }

/// Bits from the lowest of each byte on.
class Bits {
 public:
  explicit Bits(const std::vector<uint8_t>& data) : data_(data) {}
  uint32_t take(int count) {
    while (held_ < count) {
      if (at_ == data_.size()) broken("it ends too early");
      bits_ |= static_cast<uint32_t>(data_[at_++]) << held_;
      held_ += 8;
    }
    const uint32_t value = bits_ & ((1u << count) - 1);
    bits_ >>= count;
    held_ -= count;
    return value;
  }
  /// `count` whole bytes, from the next one on.
  const uint8_t* bytes(size_t count) {
    bits_ = 0;
    held_ = 0;
    if (count > data_.size() - at_) broken("it ends too early");
    at_ += count;
    return data_.data() + at_ - count;
  }
  bool at_end() const { return at_ == data_.size(); }

 private:
  const std::vector<uint8_t>& data_;
  size_t at_ = 0;
  uint32_t bits_ = 0;
  int held_ = 0;
};

/// A canonical prefix code of at most 15 bits.
class Code {
 public:
  Code(const uint8_t* lengths, int symbols) {
    for (int i = 0; i < symbols; ++i) ++count_[lengths[i]];
    count_[0] = 0;
    int left = 1;
    std::array<int, 16> next{};
    for (int length = 1; length < 16; ++length) {
      left = 2 * left - count_[length];
      if (left < 0) broken("a code has more words than there are");
      if (length < 15) next[length + 1] = next[length] + count_[length];
    }
    symbols_.resize(static_cast<size_t>(symbols));
    for (int i = 0; i < symbols; ++i)
      if (lengths[i] != 0) symbols_[static_cast<size_t>(next[lengths[i]]++)] = i;
  }
  int next(Bits& bits) const {
    int code = 0, first = 0, index = 0;
    for (int length = 1; length < 16; ++length) {
      code |= static_cast<int>(bits.take(1));
      if (code - first < count_[length]) return symbols_[static_cast<size_t>(index + code - first)];
      index += count_[length];
      first = (first + count_[length]) << 1;
      code <<= 1;
    }
    broken("a word is in no code");
  }

 private:
  std::array<int, 16> count_{};  // words by length
  std::vector<int> symbols_;     // in the order of their words
};

constexpr int kLengths[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                              31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
constexpr int kLengthBits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
constexpr int kDistances[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
constexpr int kDistanceBits[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                   6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

struct Codes {
  Code literals, distances;
};

Codes fixed_codes() {
  std::array<uint8_t, 288> lengths{};
  for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  std::array<uint8_t, 30> fives{};
  fives.fill(5);
  return {{lengths.data(), 288}, {fives.data(), 30}};
}

Codes read_codes(Bits& bits) {
  constexpr int kOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  const int literals = static_cast<int>(bits.take(5)) + 257, distances = static_cast<int>(bits.take(5)) + 1;
  const int given = static_cast<int>(bits.take(4)) + 4;
  if (literals > 286 || distances > 30) broken("a code has more words than there are");
  std::array<uint8_t, 19> of_lengths{};
  for (int i = 0; i < given; ++i) of_lengths[kOrder[i]] = static_cast<uint8_t>(bits.take(3));
  const Code code(of_lengths.data(), 19);
  std::array<uint8_t, 286 + 30> lengths{};
  for (int i = 0; i < literals + distances;) {
    const int symbol = code.next(bits);
    if (symbol < 16) {
      lengths[i++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && i == 0) broken("it repeats what is not there");
    const uint8_t repeated = symbol == 16 ? lengths[i - 1] : 0;
    int times = static_cast<int>(symbol == 16 ? 3 + bits.take(2) : symbol == 17 ? 3 + bits.take(3) : 11 + bits.take(7));
    if (i + times > literals + distances) broken("it repeats too much");
    while (times-- > 0) lengths[i++] = repeated;
  }
  return {{lengths.data(), literals}, {lengths.data() + literals, distances}};
}

}  // namespace

std::vector<uint8_t> inflate(const std::vector<uint8_t>& stored, int64_t bytes) {
  std::vector<uint8_t> out;
  out.reserve(static_cast<size_t>(bytes));
  const auto room = [&](size_t more) {
    if (more > static_cast<size_t>(bytes) - out.size()) broken("it holds more than was said");
  };
  Bits bits(stored);
  for (bool last = false; !last;) {
    last = bits.take(1) == 1;
    const uint32_t kind = bits.take(2);
    if (kind == 3) broken("a block is of no known kind");
    if (kind == 0) {
      const uint8_t* const head = bits.bytes(4);
      const size_t count = head[0] | static_cast<size_t>(head[1]) << 8;
      if ((head[2] | static_cast<size_t>(head[3]) << 8) != (count ^ 0xffff)) broken("a block has two lengths");
      room(count);
      const uint8_t* const from = bits.bytes(count);
      out.insert(out.end(), from, from + count);
      continue;
    }
    const Codes codes = kind == 1 ? fixed_codes() : read_codes(bits);
    for (;;) {
      const int symbol = codes.literals.next(bits);
      if (symbol == 256) break;
      if (symbol < 256) {
        room(1);
        out.push_back(static_cast<uint8_t>(symbol));
        continue;
      }
      if (symbol > 285) broken("a length is of no known kind");
      const size_t length = static_cast<size_t>(kLengths[symbol - 257]) + bits.take(kLengthBits[symbol - 257]);
      const int far = codes.distances.next(bits);
      const size_t distance = static_cast<size_t>(kDistances[far]) + bits.take(kDistanceBits[far]);
      if (distance > out.size()) broken("it repeats what is not there");
      room(length);
      for (size_t i = 0; i < length; ++i) out.push_back(out[out.size() - distance]);
    }
  }
  if (static_cast<int64_t>(out.size()) != bytes) broken("it holds less than was said");
  if (!bits.at_end()) broken("something follows its end");
  return out;
}

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

Pack::Pack(const std::string& path) : file_(path) {
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
    if (bytes > static_cast<uint64_t>(kMostBytes) || stored > static_cast<uint64_t>(size) ||
        offset < static_cast<uint64_t>(end) || offset > static_cast<uint64_t>(size) - stored)
      damaged("an image lies outside of it");
    if (module >= modules_.size()) modules_.resize(module + 1);
    modules_[module] = std::move(name);
    rows_.push_back({static_cast<int>(module), static_cast<int>(sm), kind == 1, sum, static_cast<int64_t>(offset),
                     static_cast<int64_t>(stored), static_cast<int64_t>(bytes)});
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

Pack::Image Pack::image(int module, int sm) const {
  const Row* const row = best(module, sm);
  if (row == nullptr)
    fail("UNSUPPORTED", file_.path(), " has no code of ", name_of(module), " for compute capability ", sm / 10, ".",
         sm % 10);
  std::vector<uint8_t> stored(static_cast<size_t>(row->stored));
  file_.read(stored.data(), row->stored, row->offset);
  Image image{row->sm, row->ptx, {}};
  try {
    image.bytes = inflate(stored, row->bytes);
  } catch (const Error& error) {
    damaged(name_of(module) + ": " + error.what());
  }
  if (crc32(image.bytes.data(), row->bytes) != row->crc) damaged("the checksum of " + name_of(module) + " is wrong");
  if (image.ptx) image.bytes.push_back(0);
  return image;
}

}  // namespace lowrank::cuda
