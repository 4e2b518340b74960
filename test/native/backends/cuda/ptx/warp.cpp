// What the lanes of a warp do together.
#include <algorithm>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

void take_mask(Decoder& d, size_t operand) {
  d.out.kind = Kind::warp_sync;
  d.out.mask = d.source(d.operand(operand), 4);
}

enum class Move : uint8_t { up, down, bfly, idx };

void shuffle(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  uint32_t* to = w.at<uint32_t>(i.slots[0]);
  const uint32_t *b = w.at<uint32_t>(i.slots[2]), *c = w.at<uint32_t>(i.slots[3]), *mask = w.at<uint32_t>(i.mask);
  uint32_t values[kLanes], valid = 0;
  std::copy_n(w.at<uint32_t>(i.slots[1]), kLanes, values);
  each(lanes, [&](int lane) {
    const int clamp = static_cast<int>(c[lane] & 31), segment = static_cast<int>(c[lane] >> 8 & 31);
    const int by = static_cast<int>(b[lane] & 31);
    const int most = (lane & segment) | (clamp & ~segment);
    int from = lane;
    bool inside = false;
    switch (static_cast<Move>(i.variant)) {
      case Move::up:
        from = lane - by, inside = from >= most;
        break;
      case Move::down:
        from = lane + by, inside = from <= most;
        break;
      case Move::bfly:
        from = lane ^ by, inside = from <= most;
        break;
      case Move::idx:
        from = (lane & segment) | (by & ~segment), inside = from <= most;
        break;
    }
    if (!inside) from = lane;
    // A lane that takes no part has no defined value.
    const bool takes_part = (lanes & mask[lane]) >> from & 1;
    to[lane] = takes_part ? values[from] : static_cast<uint32_t>(block.launch.random());
    valid |= static_cast<uint32_t>(inside) << lane;
  });
  if (i.slots[4] != kNone) {
    uint32_t& p = w.predicate(i.slots[4]);
    p = (p & ~lanes) | valid;
  }
}

void shfl(Decoder& d) {
  if (!d.take("sync")) d.fail("only shfl.sync is known");
  d.out.variant = static_cast<uint8_t>(d.take_one({"up", "down", "bfly", "idx"}));
  if (d.take_type() != "b32") d.fail("unsupported type");
  d.expect_operands(5, 5);
  const std::string& targets = d.operand(0);
  const size_t bar = targets.find('|');
  d.out.slots[0] = d.target(targets.substr(0, bar), 4);
  d.out.slots[4] = bar == std::string::npos ? kNone : d.predicate_target(targets.substr(bar + 1));
  for (size_t k = 1; k < 4; ++k) d.out.slots[k] = d.source(d.operand(k), 4);
  take_mask(d, 4);
  d.out.run = shuffle;
}

void vote(Decoder& d) {
  if (!d.take("sync")) d.fail("only vote.sync is known");
  d.out.variant = static_cast<uint8_t>(d.take_one({"all", "any", "uni", "ballot"}));
  const bool is_ballot = d.out.variant == 3;
  if (d.take_type() != (is_ballot ? "b32" : "pred")) d.fail("unsupported type");
  d.expect_operands(3, 3);
  bool negated = false;
  d.out.slots[0] = is_ballot ? d.target(d.operand(0), 4) : d.predicate_target(d.operand(0));
  d.out.slots[1] = d.predicate(d.operand(1), negated);
  d.out.widths[1] = negated;
  take_mask(d, 2);
  d.out.run = [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    const uint32_t votes = (w.predicate(i.slots[1]) ^ (i.widths[1] ? kAllLanes : 0)) & lanes;
    const uint32_t* mask = w.at<uint32_t>(i.mask);
    uint32_t found = 0;
    each(lanes, [&](int l) {
      const uint32_t of = mask[l] & lanes, yes = votes & of;
      if (i.variant == 3) {
        w.at<uint32_t>(i.slots[0])[l] = yes;
      } else {
        const bool holds = i.variant == 0 ? yes == of : i.variant == 1 ? yes != 0 : yes == of || yes == 0;
        found |= static_cast<uint32_t>(holds) << l;
      }
    });
    if (i.variant != 3) {
      uint32_t& to = w.predicate(i.slots[0]);
      to = (to & ~lanes) | found;
    }
  };
}

template <class T>
void match_any(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  uint32_t found[kLanes] = {};
  const T* a = w.at<T>(i.slots[1]);
  const uint32_t* mask = w.at<uint32_t>(i.mask);
  each(lanes, [&](int l) {
    each(mask[l] & lanes, [&](int other) { found[l] |= static_cast<uint32_t>(a[l] == a[other]) << other; });
  });
  each(lanes, [&](int l) { w.at<uint32_t>(i.slots[0])[l] = found[l]; });
}

void match(Decoder& d) {
  if (!d.take("any") || !d.take("sync")) d.fail("only match.any.sync is known");
  const std::string type = d.take_type();
  if (type != "b32" && type != "b64") d.fail("unsupported type");
  d.expect_operands(3, 3);
  d.out.slots[0] = d.target(d.operand(0), 4);
  d.out.slots[1] = d.source(d.operand(1), type_bytes(type));
  take_mask(d, 2);
  d.out.run = type == "b32" ? match_any<uint32_t> : match_any<uint64_t>;
}

template <class T>
void reduce(Block&, Warp& w, const Instruction& i, uint32_t lanes) {
  T values[kLanes], found[kLanes] = {};
  std::copy_n(w.at<T>(i.slots[1]), kLanes, values);
  const uint32_t* mask = w.at<uint32_t>(i.mask);
  each(lanes, [&](int l) {
    bool is_first = true;
    each(mask[l] & lanes, [&](int other) {
      const T a = found[l], b = values[other];
      const T joined[] = {static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)),
                          std::min(a, b),
                          std::max(a, b),
                          a & b,
                          a | b,
                          a ^ b};
      found[l] = is_first ? b : joined[i.variant];
      is_first = false;
    });
  });
  each(lanes, [&](int l) { w.at<T>(i.slots[0])[l] = found[l]; });
}

void redux(Decoder& d) {
  if (!d.take("sync")) d.fail("only redux.sync is known");
  d.out.variant = static_cast<uint8_t>(d.take_one({"add", "min", "max", "and", "or", "xor"}));
  const std::string type = d.take_type();
  if (type != "u32" && type != "s32" && type != "b32") d.fail("unsupported type");
  d.expect_operands(3, 3);
  d.out.slots[0] = d.target(d.operand(0), 4);
  d.out.slots[1] = d.source(d.operand(1), 4);
  take_mask(d, 2);
  d.out.run = type == "s32" ? reduce<int32_t> : reduce<uint32_t>;
}

}  // namespace

void add_warp_opcodes(OpcodeTable& table) {
  table["shfl"] = shfl;
  table["vote"] = vote;
  table["match"] = match;
  table["redux"] = redux;
}

}  // namespace lowrank::test::ptx
