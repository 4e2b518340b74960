#include "weights/weight_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/math.h"
#include "quant/four_bit.h"

namespace lowrank {
namespace {

constexpr int64_t kKeyBytes = 64;
constexpr uint32_t kVersion = 1;
constexpr char kMagic[8] = {'L', 'O', 'W', 'R', 'A', 'N', 'K', 'W'};
/// Elements of rows that are loaded at a time.
constexpr int64_t kPartElements = int64_t{4} << 20;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t page;
  int64_t weights;
  int64_t bytes;
  char key[kKeyBytes];
  uint64_t checksum;  // of the header with 0 here, and of the records
};

struct Record {
  uint64_t name;  // its hash
  int64_t offset;
  int64_t rows;
  int64_t cols;
  uint32_t format;
  float absmax_offset;
};

/// FNV-1a.
uint64_t hash(const void* data, size_t bytes, uint64_t state = 0xcbf29ce484222325u) {
  for (size_t i = 0; i < bytes; ++i) state = (state ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  return state;
}

int64_t head_bytes(size_t weights) { return static_cast<int64_t>(sizeof(Header) + weights * sizeof(Record)); }

std::vector<std::byte> head_of(const WeightLayout& layout, const std::vector<std::string>& names,
                               const std::string& key, const std::vector<float>& absmax_offsets) {
  if (static_cast<int64_t>(key.size()) > kKeyBytes)
    fail("INTERNAL", "the key of a weight file has ", key.size(), " characters");
  Header header{};
  std::copy(std::begin(kMagic), std::end(kMagic), header.magic);
  header.version = kVersion;
  header.page = static_cast<uint32_t>(os::page_bytes());
  header.weights = static_cast<int64_t>(layout.places.size());
  header.bytes = layout.bytes;
  std::copy(key.begin(), key.end(), header.key);
  std::vector<Record> records;
  for (size_t i = 0; i < layout.places.size(); ++i) {
    const WeightPlace& place = layout.places[i];
    records.push_back({hash(names[i].data(), names[i].size()), place.offset, place.rows, place.cols,
                       static_cast<uint32_t>(place.format), absmax_offsets[i]});
  }
  const size_t record_bytes = records.size() * sizeof(Record);
  header.checksum = hash(records.data(), record_bytes, hash(&header, sizeof header));
  std::vector<std::byte> head(sizeof header + record_bytes);
  std::memcpy(head.data(), &header, sizeof header);
  std::memcpy(head.data() + sizeof header, records.data(), record_bytes);
  return head;
}

std::vector<std::string> names_of(const Graph& graph) {
  std::vector<std::string> names;
  for (const GraphWeight& weight : graph.weights) names.push_back(weight.name);
  return names;
}

}  // namespace

int64_t WeightPlace::constants_offset() const { return offset + round_up(elements(), kWeightAlignment); }

WeightLayout::WeightLayout(const Graph& graph, const std::vector<StorageFormat>& formats) {
  const int64_t page = os::page_bytes();
  const std::vector<bool> tables = graph.tables();
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const GraphWeight& weight = graph.weights[i];
    places.push_back({formats[i], weight.rows, weight.cols, 0, weight.kind == WeightKind::vector, tables[i]});
  }
  bytes = head_bytes(places.size());
  for (const bool vectors : {true, false}) {
    for (WeightPlace& place : places) {
      if (place.vector != vectors) continue;
      place.offset = round_up(bytes, vectors ? kWeightAlignment : page);
      bytes = place.end();
    }
  }
  bytes = round_up(bytes, page);
}

WeightFileWriter::WeightFileWriter(const Graph& graph, const std::vector<StorageFormat>& formats, std::string key,
                                   const std::string& path, bool put_away)
    : layout_(graph, formats),
      names_(names_of(graph)),
      key_(std::move(key)),
      file_(path, layout_.bytes),
      put_away_(put_away),
      absmax_offsets_(layout_.places.size()),
      written_(layout_.places.size()) {}

void WeightFileWriter::write(int index, const Weight& weight) {
  const WeightPlace& place = layout_.places[index];
  if (weight.format() != place.format || weight.rows() != place.rows || weight.cols() != place.cols)
    fail("INTERNAL", "weight '", names_[index], "' is ", name_of(weight.format()), " [", weight.rows(), ", ",
         weight.cols(), "] but its place in the file is ", name_of(place.format), " [", place.rows, ", ", place.cols,
         "]");
  file_.write(weight.data(), place.elements(), place.offset);
  if (place.constants() > 0) file_.write(weight.constants(), place.constants(), place.constants_offset());
  if (put_away_) file_.put_away(place.offset, place.end() - place.offset);
  absmax_offsets_[index] = weight.absmax_offset();
  written_[index] = true;
}

void WeightFileWriter::store(Pool& pool, const TensorSource& source, int index, const LoadOptions& options) {
  const WeightPlace& place = layout_.places[index];
  // A part ends at the end of a block of codes.
  const int64_t rows = round_up(std::max<int64_t>(1, kPartElements / place.cols), kCodeBlock);
  if (is_packed(source.dtype) || source.permuted_heads > 0 || source.head_order || place.rows <= rows)
    return write(index, load_weight(pool, source, place.format, options));
  if (source.rows != place.rows || source.cols != place.cols || source.bytes % place.rows != 0)
    fail("FILE_FORMAT", "Tensor ", source.name, " in ", source.file, " takes ", source.bytes, " bytes for [",
         source.rows, ", ", source.cols, "], which are not the same number for each of ", place.rows, " rows.");
  // The scales of double quantization become codes when all of them are known.
  const bool nested = is_double(place.format);
  const StorageFormat format = simple_of(place.format);
  const Block absmax(Category::workspace, nested ? constants_bytes(format, place.rows, place.cols) : 0);
  for (int64_t begin = 0; begin < place.rows; begin += rows) {
    TensorSource part = source;
    part.rows = std::min(rows, place.rows - begin);
    part.offset += source.bytes / place.rows * begin;
    part.bytes = source.bytes / place.rows * part.rows;
    LoadOptions own = options;
    own.first_row = begin;
    const Weight weight = load_weight(pool, part, format, own);
    const int64_t bytes = weight_bytes(format, part.rows, place.cols);
    const int64_t offset = place.offset + weight_bytes(format, begin, place.cols);
    file_.write(weight.data(), bytes, offset);
    if (put_away_) file_.put_away(offset, bytes);
    const int64_t constants = constants_bytes(format, part.rows, place.cols);
    const int64_t earlier = constants_bytes(format, begin, place.cols);
    if (nested)
      std::memcpy(absmax.data<std::byte>() + earlier, weight.constants(), static_cast<size_t>(constants));
    else if (constants > 0)
      file_.write(weight.constants(), constants, place.constants_offset() + earlier);
  }
  if (nested) {
    const int64_t blocks = code_blocks(place.rows * place.cols);
    std::vector<uint8_t> codes(static_cast<size_t>(blocks));
    std::vector<float> scales(static_cast<size_t>(nested_blocks(blocks)));
    absmax_offsets_[index] = quantize_absmax(absmax.data<float>(), blocks, codes.data(), scales.data());
    const int64_t first = nested_blocks(blocks) * 4;
    file_.write(scales.data(), first, place.constants_offset());
    file_.write(codes.data(), blocks, place.constants_offset() + first);
  }
  if (put_away_ && place.constants() > 0) file_.put_away(place.constants_offset(), place.constants());
  written_[index] = true;
}

void WeightFileWriter::finish() {
  for (size_t i = 0; i < written_.size(); ++i)
    if (!written_[i]) fail("INTERNAL", "weight '", names_[i], "' is missing in its file");
  file_.sync();
  const std::vector<std::byte> head = head_of(layout_, names_, key_, absmax_offsets_);
  file_.write(head.data(), static_cast<int64_t>(head.size()), 0);
  file_.sync();
  file_.put_away(0, layout_.bytes);  // mapped, it is read again in larger pages than it was written in
}

WeightFile::WeightFile(const Graph& graph, const std::vector<StorageFormat>& formats, const std::string& key,
                       const std::string& path, bool paged)
    : layout_(graph, formats), file_(path), paged_(paged) {
  if (paged) file_.expect_no_order();
  const auto refuse = [&](const auto&... what) {
    fail("FILE_FORMAT", path, " is not a file of these weights: ", what..., ". Remove it; it will be written again.");
  };
  const size_t count = layout_.places.size();
  if (file_.bytes() != layout_.bytes) refuse("it has ", file_.bytes(), " bytes, expected ", layout_.bytes);
  // Everything but the offsets of absmax values is known beforehand, so the file must have just that.
  for (size_t i = 0; i < count; ++i) {
    Record record;
    std::memcpy(&record, file_.data() + sizeof(Header) + i * sizeof(Record), sizeof record);
    if (!std::isfinite(record.absmax_offset)) refuse("weight ", i, " has the mean scale ", record.absmax_offset);
    absmax_offsets_.push_back(record.absmax_offset);
  }
  const std::vector<std::byte> expected = head_of(layout_, names_of(graph), key, absmax_offsets_);
  if (std::memcmp(expected.data(), file_.data(), expected.size()) != 0)
    refuse("its header belongs to another model, format, or version, or is damaged");
}

Weight WeightFile::weight(const std::shared_ptr<const WeightFile>& self, int index) {
  const WeightPlace& place = self->layout_.places[index];
  const std::byte* const data = self->file_.data();
  if (place.vector) {
    Weight copy(place.format, place.rows, place.cols);
    std::memcpy(copy.data(), data + place.offset, static_cast<size_t>(place.elements()));
    return copy;
  }
  const std::byte* const constants = data + place.constants_offset();
  WeightBytes bytes{data + place.offset, constants, self->absmax_offsets_[index], self};
  const bool apart = self->paged_ && place.table && place.constants() > 0;
  if (apart) bytes.constants = nullptr;
  Weight weight(place.format, place.rows, place.cols, bytes);
  if (apart) std::memcpy(weight.constants(), constants, static_cast<size_t>(place.constants()));
  return weight;
}

}  // namespace lowrank
