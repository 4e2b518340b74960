// The kernel pack.
#include "backends/cuda/pack.h"

#include "core/error.h"
#include "standin_test.h"

namespace lowrank::test {
namespace {

using cuda::Pack;

TEST("the checksum of a pack is that of zip files") {
  const std::string text = "123456789";
  CHECK_EQ(cuda::crc32(reinterpret_cast<const uint8_t*>(text.data()), 9), 0xcbf43926u);
}

std::vector<uint8_t> sample() {
  return PackBytes::of({{0, 80, false, "cubin of 80"},
                        {0, 86, false, "cubin of 86"},
                        {0, 90, false, "cubin of 90"},
                        {0, 80, true, "ptx of 80"},
                        {1, 80, true, "other ptx"}},
                       {{"rope", 0}, {"add", 0}, {"gated_unit", 1}});
}

std::string code(const Pack& pack, int module, int sm) {
  const Pack::Image image = pack.image(module, sm);
  std::string text(image.bytes.begin(), image.bytes.end());
  if (image.ptx) {
    CHECK_EQ(text.back(), '\0');
    text.pop_back();
  }
  return text;
}

TEST("a pack gives a card the newest code that the card can run") {
  const TemporaryFile file(sample());
  const Pack pack(file.path());
  CHECK_EQ(pack.module_of("add"), 0);
  CHECK_EQ(pack.module_of("gated_unit"), 1);
  CHECK_EQ(pack.module_of("rop"), -1);
  CHECK_EQ(code(pack, 0, 80), std::string("cubin of 80"));
  CHECK_EQ(code(pack, 0, 86), std::string("cubin of 86"));
  CHECK_EQ(code(pack, 0, 89), std::string("cubin of 86"));
  CHECK_EQ(code(pack, 0, 90), std::string("cubin of 90"));
  CHECK_EQ(code(pack, 0, 120), std::string("ptx of 80"));
  CHECK_EQ(code(pack, 1, 89), std::string("other ptx"));
  CHECK(pack.runs_on(80) && pack.runs_on(120) && !pack.runs_on(75));
  CHECK_THROWS(pack.image(0, 75), "has no code of module0 for compute capability 7.5");
}

TEST("compressed images are those that were inflated for the card") {
  const TemporaryFile file(PackBytes::of({{0, 80, false, "cubin of 80"},
                                          {0, 90, false, "cubin of 90", "small"},
                                          {1, 80, true, "other ptx", "tiny"},
                                          {2, 80, true, "ptx as it is"}},
                                         {{"add", 0}, {"rope", 1}, {"gated_unit", 2}}));
  const std::vector<Pack::Stored> of_80 = Pack(file.path()).compressed(80), of_90 = Pack(file.path()).compressed(90);
  CHECK_EQ(of_80.size(), 1u);
  CHECK_EQ(of_90.size(), 2u);
  CHECK(of_90[0].stored == 5 && of_90[0].bytes == 11 && of_80[0].offset == of_90[1].offset);
  const auto bytes = [](const std::string& text) { return std::vector<uint8_t>(text.begin(), text.end()); };
  const Pack pack(file.path(), {{of_90[0].offset, bytes("cubin of 90")}, {of_90[1].offset, bytes("other ptx")}});
  CHECK_EQ(code(pack, 0, 80), std::string("cubin of 80"));
  CHECK_EQ(code(pack, 0, 90), std::string("cubin of 90"));
  CHECK_EQ(code(pack, 1, 80), std::string("other ptx"));
  CHECK_EQ(code(pack, 2, 90), std::string("ptx as it is"));
  CHECK_THROWS(Pack(file.path()).image(1, 80), "is compressed");
  for (const char* const other : {"cubin of 91", "cubin of 9", ""})
    CHECK_THROWS(Pack(file.path(), {{of_90[0].offset, bytes(other)}}).image(0, 90), "checksum of module0 is wrong");
}

TEST("a damaged pack is refused by name, wherever it is cut or changed") {
  const std::vector<uint8_t> whole = sample();
  for (size_t length = 0; length < whole.size(); length += 3) {
    const TemporaryFile file({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
    CHECK_THROWS(Pack(file.path()), "is damaged");
    CHECK_THROWS(Pack(file.path()), file.path());
  }
  // Behind the checksum of the lists (bytes 20 to 23) and the size, each change is found, at the latest by the image's
  // own.
  for (size_t at = 0; at < whole.size(); ++at) {
    std::vector<uint8_t> changed = whole;
    changed[at] ^= 0x41;
    const TemporaryFile file(changed);
    bool found = false;
    try {
      const Pack pack(file.path());
      for (const int sm : {80, 86, 90, 120})
        for (int module = 0; module < 2; ++module) (void)pack.image(module, sm);
    } catch (const Error& error) {
      found = std::string(error.code()) == "FILE_FORMAT";
    }
    CHECK(found);
  }
  CHECK_THROWS(Pack("/nowhere/lowrank.cuda"), "/nowhere/lowrank.cuda");
}

}  // namespace
}  // namespace lowrank::test
