// The kernel pack: one file with the compiled kernels for every kind of card. scripts/cuda/pack.mjs writes it. All
// numbers are little-endian:
//
//   0   "LOWRCUDA"
//   8   u32 version, 1; u32 images; u32 kernels; u32 CRC-32 of the rows; u64 bytes of the file
//   32  a row of 64 bytes an image: u32 number of the module, u32 compute capability (ten times), u32 kind (0 cubin, 1
//   PTX),
//       u32 CRC-32 of the image, u64 offset, u64 stored bytes, u64 bytes, name of the module in 24 bytes
//   then a row of 64 bytes a kernel: name in 60 bytes, u32 number of its module
//   then the images; one that has fewer stored bytes than bytes is compressed by deflate without a header
//
// Names end with a zero byte. The package's pack is compressed and inflated by Node.js; that of native programs is not.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "os/file.h"

namespace lowrank::cuda {

/// CRC-32 as in zip files.
uint32_t crc32(const uint8_t* data, int64_t bytes);

/// Images that were inflated, by their offset in the pack.
using Inflated = std::map<int64_t, std::vector<uint8_t>>;

class Pack {
 public:
  /// Reads the rows. Throws Error("FILE_FORMAT") for a file that is missing or damaged.
  explicit Pack(const std::string& path, Inflated inflated = {});

  /// Number of the module that has a kernel; -1 where none has.
  int module_of(std::string_view kernel) const;
  const std::string& name_of(int module) const { return modules_[static_cast<size_t>(module)]; }
  int modules() const { return static_cast<int>(modules_.size()); }
  /// True if there is code for a card with this compute capability.
  bool runs_on(int sm) const;

  struct Stored {
    int64_t offset, stored, bytes;
  };
  /// The compressed images that a card with this compute capability needs.
  std::vector<Stored> compressed(int sm) const;

  struct Image {
    int sm;
    bool ptx;
    std::vector<uint8_t> bytes;  // with a zero byte behind PTX
  };
  /// The code of a module for a card: the newest cubin of its generation that is no newer than the card, else the
  /// newest PTX that is not. Throws Error("FILE_FORMAT") where it is damaged or still compressed, and
  /// Error("UNSUPPORTED") where there is none.
  Image image(int module, int sm) const;

 private:
  struct Row {
    int module, sm;
    bool ptx;
    uint32_t crc;
    Stored at;
  };
  struct Kernel {
    std::string name;
    int module;
  };
  [[noreturn]] void damaged(const std::string& what) const;
  const Row* best(int module, int sm) const;

  os::File file_;
  Inflated inflated_;
  std::vector<std::string> modules_;
  std::vector<Row> rows_;
  std::vector<Kernel> kernels_;  // by name
};

}  // namespace lowrank::cuda
