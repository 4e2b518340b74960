// Branches, ends, and barriers of the block.
#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

void nothing(Block&, Warp&, const Instruction&, uint32_t) {}

void bra(Decoder& d) {
  d.take("uni");
  d.expect_operands(1, 1);
  d.out.kind = Kind::branch;
  d.out.target = d.branch_table(d.operand(0)).front();
}

void brx(Decoder& d) {
  if (!d.take("idx")) d.fail("a modifier is missing");
  d.take("uni");
  d.expect_operands(2, 2);
  d.out.kind = Kind::branch_table;
  d.out.slots[0] = d.source(d.operand(0), 4);
  d.out.targets = d.branch_table(d.operand(1));
}

void end(Decoder& d) {
  d.take("uni");
  d.expect_operands(0, 0);
  d.out.kind = Kind::exit;
}

void trap(Decoder& d) {
  d.out.run = [](Block& block, Warp& w, const Instruction&, uint32_t lanes) {
    block.fault("trap", w, std::countr_zero(lanes), "the kernel gave up");
  };
}

/// Barriers of some of the block's threads are not known.
void bar(Decoder& d) {
  if (d.take("warp")) {
    if (!d.take("sync")) d.fail("a modifier is missing");
    d.expect_operands(1, 1);
    d.out.kind = Kind::warp_sync;
    d.out.mask = d.source(d.operand(0), 4);
    // With a part of the warp nothing is said about the rest's accesses.
    d.out.run = [](Block&, Warp& w, const Instruction&, uint32_t lanes) { w.epoch += lanes == w.live; };
    return;
  }
  d.take("cta");
  const bool reduces = d.take_one({"sync", "red"}) == 1;
  d.take("aligned");
  d.out.kind = Kind::barrier;
  if (!reduces) {
    d.expect_operands(1, 1);
    d.out.offset = d.immediate(d.operand(0));
    return;
  }
  d.out.variant = static_cast<uint8_t>(d.take_one({"popc", "and", "or"}));
  if (d.take_type() != (d.out.variant == 0 ? "u32" : "pred")) d.fail("unsupported type");
  d.expect_operands(3, 3);
  bool negated = false;
  d.out.slots[0] = d.out.variant == 0 ? d.target(d.operand(0), 4) : d.predicate_target(d.operand(0));
  d.out.offset = d.immediate(d.operand(1));
  d.out.slots[1] = d.predicate(d.operand(2), negated);
  d.out.second_offset = negated;
  d.out.run = nothing;
}

/// Accesses are seen in their order here; a fence orders no accesses of different threads.
void fence(Decoder& d) {
  for (const char* word : {"acq_rel", "sc", "acquire", "release", "cta", "gpu", "sys", "gl"}) d.take(word);
  d.expect_operands(0, 0);
  d.out.run = nothing;
}

void prefetch(Decoder& d) {
  for (const char* word : {"global", "L1", "L2", "L2::evict_last", "L2::evict_normal"}) d.take(word);
  d.out.run = nothing;
}

}  // namespace

void add_control_opcodes(OpcodeTable& table) {
  table["bra"] = bra;
  table["brx"] = brx;
  table["ret"] = end;
  table["exit"] = end;
  table["trap"] = trap;
  table["bar"] = bar;
  table["barrier"] = bar;
  table["fence"] = fence;
  table["membar"] = fence;
  table["prefetch"] = prefetch;
}

}  // namespace lowrank::test::ptx
