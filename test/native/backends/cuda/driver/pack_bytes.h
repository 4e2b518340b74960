// Kernel packs for tests; native/backends/cuda/pack.h has their layout.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank::test {

class PackBytes {
 public:
  struct Image {
    uint32_t module, sm;
    bool ptx;
    std::string bytes;
    std::string deflated = {};  // in place of the bytes
  };
  struct Kernel {
    std::string name;
    uint32_t module;
  };
  static std::vector<uint8_t> of(const std::vector<Image>& images, const std::vector<Kernel>& kernels) {
    std::string rows, data;
    const size_t begin = 32 + 64 * (images.size() + kernels.size());
    for (const Image& image : images) {
      put(rows, image.module, 4);
      put(rows, image.sm, 4);
      put(rows, image.ptx ? 1 : 0, 4);
      put(rows, crc(image.bytes), 4);
      put(rows, begin + data.size(), 8);
      put(rows, image.deflated.empty() ? image.bytes.size() : image.deflated.size(), 8);
      put(rows, image.bytes.size(), 8);
      rows += padded("module" + std::to_string(image.module), 24);
      data += image.deflated.empty() ? image.bytes : image.deflated;
    }
    for (const Kernel& kernel : kernels) {
      rows += padded(kernel.name, 60);
      put(rows, kernel.module, 4);
    }
    std::string file = "LOWRCUDA";
    put(file, 1, 4);
    put(file, images.size(), 4);
    put(file, kernels.size(), 4);
    put(file, crc(rows), 4);
    put(file, begin + data.size(), 8);
    file += rows + data;
    return {file.begin(), file.end()};
  }
  /// One whose cubins, for several generations of cards, are the names of their kernels.
  static std::vector<uint8_t> of_names(const std::vector<std::string>& names) {
    std::string text = "\177ELFnames";
    std::vector<Kernel> kernels;
    for (const std::string& name : names) {
      kernels.push_back({name, 0});
      text.append(1, '\n').append(name);
    }
    text.append(1, '\0');
    return of({{0, 80, false, text}, {0, 90, false, text}}, kernels);
  }

 private:
  static uint32_t crc(const std::string& text) {
    uint32_t crc = 0xffffffffu;
    for (const char byte : text) {
      crc ^= static_cast<uint8_t>(byte);
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0u);
    }
    return ~crc;
  }
  static void put(std::string& to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i));
  }
  static std::string padded(std::string text, size_t bytes) {
    text.resize(bytes);
    return text;
  }
};

}  // namespace lowrank::test
