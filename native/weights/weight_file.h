// A model's weights in one file, byte for byte as they are held in memory, so that loading them again is mapping the
// file: no decoding, no quantizing. It is made and read on one machine; whatever does not fit is made anew.
//
//   header    magic, version, page size, number of weights, bytes of the file, key, checksum; then a record a weight
//   vectors   norms and biases one after the other
//   matrices  in the order of the graph, so layer by layer, each from a page of its own: elements, then constants
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "os/mapped_file.h"
#include "weights/weights.h"

namespace lowrank {

/// Position of a weight in the file. Its constants follow its elements, aligned to kWeightAlignment.
struct WeightPlace {
  StorageFormat format = StorageFormat::f32;
  int64_t rows = 0, cols = 0;
  int64_t offset = 0;
  bool vector = false;
  /// Read a few rows at a time; with paging, its constants stay in memory.
  bool table = false;

  int64_t elements() const { return weight_bytes(format, rows, cols); }
  int64_t constants() const { return constants_bytes(format, rows, cols); }
  int64_t constants_offset() const;
  int64_t end() const { return constants_offset() + constants(); }
};
inline constexpr int64_t kWeightAlignment = 64;

/// Determined by shapes, formats, and the page size alone.
struct WeightLayout {
  WeightLayout(const Graph& graph, const std::vector<StorageFormat>& formats);
  std::vector<WeightPlace> places;  // parallel to graph.weights
  int64_t bytes = 0;                // of the file
};

/// A weight file being written. It is invalid before `finish`.
class WeightFileWriter {
 public:
  /// @param key identifies the contents; readers must pass the same key
  /// @param put_away keep at most one weight in the page cache, for models larger than memory
  /// Throws Error("WRITE") as os::NewFile.
  WeightFileWriter(const Graph& graph, const std::vector<StorageFormat>& formats, std::string key,
                   const std::string& path, bool put_away);

  /// Writes a weight; each once, in any order.
  void write(int index, const Weight& weight);
  /// Loads a weight from its tensor and writes it, a few rows at a time, so it need not fit in memory.
  void store(Pool& pool, const TensorSource& source, int index, const LoadOptions& options = {});
  /// Writes the header and syncs everything to disk. Throws Error("INTERNAL") when a weight is missing.
  void finish();

  const WeightLayout& layout() const { return layout_; }

 private:
  WeightLayout layout_;
  std::vector<std::string> names_;
  std::string key_;
  os::NewFile file_;
  bool put_away_;
  std::vector<float> absmax_offsets_;
  std::vector<bool> written_;
};

/// An open weight file, validated and mapped.
class WeightFile {
 public:
  /// @param paged from the start, keep only requested parts in memory
  /// Throws Error("FILE_FORMAT") if the file cannot be read, or has another model, other formats, or another key.
  WeightFile(const Graph& graph, const std::vector<StorageFormat>& formats, const std::string& key,
             const std::string& path, bool paged);

  const WeightLayout& layout() const { return layout_; }
  const os::MappedFile& file() const { return file_; }
  /// A matrix in place, kept alive by `self`; vectors, and the constants of a paged table, are copied to memory.
  static Weight weight(const std::shared_ptr<const WeightFile>& self, int index);

 private:
  WeightLayout layout_;
  os::MappedFile file_;
  bool paged_;
  std::vector<float> absmax_offsets_;
};

}  // namespace lowrank
