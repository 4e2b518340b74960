// ldmatrix and mma.sync.
#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

void require_whole_warp(const Block& block, const Warp& w, uint32_t lanes) {
  if (lanes != kAllLanes) block.fault("divergence", w, std::countr_zero(lanes), "a warp that is not whole");
}

constexpr size_t kAddress = 8;

/// 8 x 8 matrices of 16-bit elements; each of eight lanes names a row of 16 bytes.
void load_matrices(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  require_whole_warp(block, w, lanes);
  const int rows = 8 * i.count;
  const uint32_t naming = rows == 32 ? kAllLanes : (1u << rows) - 1;
  uint64_t addresses[kLanes] = {};
  each(naming, [&](int l) {
    const uint64_t base =
        i.widths[kAddress] == 4 ? w.at<uint32_t>(i.slots[kAddress])[l] : w.at<uint64_t>(i.slots[kAddress])[l];
    addresses[l] = base + static_cast<uint64_t>(i.offset);
  });
  if (block.launch.options.traffic) block.note(w, i.space, addresses, naming, 16, false);
  uint16_t values[kLanes][8];
  each(naming, [&](int l) { std::memcpy(values[l], block.touch(w, l, i.space, addresses[l], 16, false), 16); });
  for (int m = 0; m < i.count; ++m) {
    uint16_t* to = w.at<uint16_t>(i.slots[static_cast<size_t>(m)]);
    for (int l = 0; l < kLanes; ++l) {
      for (int h = 0; h < 2; ++h) {
        const int row = i.variant ? 2 * (l % 4) + h : l / 4, column = i.variant ? l / 4 : 2 * (l % 4) + h;
        to[2 * l + h] = values[8 * m + row][column];
      }
    }
  }
}

void ldmatrix(Decoder& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8")) d.fail("unsupported shape");
  d.out.count = static_cast<uint8_t>(1 << d.take_one({"x1", "x2", "x4"}));
  d.out.variant = d.take("trans");
  if (d.take_type() != "b16") d.fail("unsupported type");
  d.out.space = d.take_space();
  if (d.out.space != Space::shared && d.out.space != Space::generic) d.fail("unsupported space");
  d.expect_operands(2, 2);
  const auto targets = Decoder::list(d.operand(0));
  if (targets.size() != d.out.count) d.fail("unexpected number of registers");
  for (size_t k = 0; k < targets.size(); ++k) d.out.slots[k] = d.target(targets[k], 4);
  d.address(d.operand(1), kAddress, d.out.offset);
  d.out.kind = Kind::warp_sync;
  d.out.whole_warp = true;
  d.out.run = load_matrices;
}

float widened(Bfloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }
float widened(Half value) { return static_cast<float>(static_cast<double>(value)); }

/// D = A B + C of 16 x 16 and 16 x 8, summed in fp32 in the order of k.
template <class T>
void multiply(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  require_whole_warp(block, w, lanes);
  const Fragments& places = *block.launch.options.fragments;
  float a[16][16], b[16][8], d[16][8];
  const auto value = [&](size_t slot, int lane, int half) { return widened(w.at<T>(i.slots[slot])[2 * lane + half]); };
  for (int l = 0; l < kLanes; ++l) {
    const auto lane = static_cast<size_t>(l);
    for (size_t k = 0; k < 8; ++k) a[places.a[lane][k].row][places.a[lane][k].column] = value(4 + k / 2, l, k % 2);
    for (size_t k = 0; k < 4; ++k) b[places.b[lane][k].row][places.b[lane][k].column] = value(8 + k / 2, l, k % 2);
    for (size_t k = 0; k < 4; ++k) d[places.d[lane][k].row][places.d[lane][k].column] = w.at<float>(i.slots[10 + k])[l];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      const float factor = a[row][k];
      for (int column = 0; column < 8; ++column) d[row][column] += factor * b[k][column];
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    const auto lane = static_cast<size_t>(l);
    for (size_t k = 0; k < 4; ++k) w.at<float>(i.slots[k])[l] = d[places.d[lane][k].row][places.d[lane][k].column];
  }
}

void mma(Decoder& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m16n8k16") || !d.take("row") || !d.take("col")) {
    d.fail("unsupported shape");
  }
  const std::string c = d.take_type(), b = d.take_type(), a = d.take_type(), result = d.take_type();
  if (c != "f32" || result != "f32" || a != b || (a != "bf16" && a != "f16")) d.fail("unsupported types");
  d.expect_operands(4, 4);
  size_t at = 0;
  for (size_t k = 0; k < 4; ++k) {
    const auto words = Decoder::list(d.operand(k));
    if (words.size() != (k == 2 ? 2 : 4)) d.fail("unexpected number of registers");
    for (const std::string& word : words) d.out.slots[at++] = k == 0 ? d.target(word, 4) : d.source(word, 4);
  }
  d.out.kind = Kind::warp_sync;
  d.out.whole_warp = true;
  d.out.run = a == "bf16" ? multiply<Bfloat16> : multiply<Half>;
}

}  // namespace

const Fragments& Fragments::standard() {
  static const Fragments fragments = [] {
    Fragments made{};
    for (uint8_t lane = 0; lane < kLanes; ++lane) {
      const uint8_t group = lane / 4, place = 2 * (lane % 4);
      for (uint8_t k = 0; k < 8; ++k) {
        made.a[lane][k] = {static_cast<uint8_t>(group + (k / 2 % 2) * 8),
                           static_cast<uint8_t>(place + k % 2 + (k / 4) * 8)};
      }
      for (uint8_t k = 0; k < 4; ++k) {
        made.b[lane][k] = {static_cast<uint8_t>(place + k % 2 + (k / 2) * 8), group};
        made.d[lane][k] = {static_cast<uint8_t>(group + (k / 2) * 8), static_cast<uint8_t>(place + k % 2)};
      }
    }
    return made;
  }();
  return fragments;
}

void add_matrix_opcodes(OpcodeTable& table) {
  table["ldmatrix"] = ldmatrix;
  table["mma"] = mma;
}

}  // namespace lowrank::test::ptx
