// Single instructions against their meaning in C++, and programs that must not run.
#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <random>

#include "backends/cuda/ptx_support.h"

using namespace lowrank;
using namespace lowrank::test::ptx;

namespace {

constexpr const char* kHead = ".version 8.8\n.target sm_80\n.address_size 64\n";

/// A kernel of one warp that gives each lane its numbers a, b, c (32 bits), and takes d.
std::string program(const std::string& body) {
  return kHead + std::string(R"(
.visible .entry k(.param .u64 in, .param .u64 out) {
  .reg .pred %p<8>;
  .reg .b16 %h<16>;
  .reg .b32 %r<32>, %a, %b, %c, %d;
  .reg .b64 %rd<16>;
  ld.param.u64 %rd0, [in];
  ld.param.u64 %rd1, [out];
  mov.u32 %r0, %tid.x;
  mul.wide.u32 %rd2, %r0, 12;
  add.s64 %rd2, %rd0, %rd2;
  ld.global.u32 %a, [%rd2];
  ld.global.u32 %b, [%rd2+4];
  ld.global.u32 %c, [%rd2+8];
)") + body +
         R"(
  mul.wide.u32 %rd3, %r0, 4;
  add.s64 %rd3, %rd1, %rd3;
  st.global.u32 [%rd3], %d;
  ret;
})";
}

struct Numbers {
  uint32_t a, b, c;
};

/// Bits that floating-point and integer instructions find interesting.
std::vector<Numbers> numbers() {
  const uint32_t special[] = {0,          1,          0x80000000, 0xffffffff, 0x7fffffff, 0x3f800000,
                              0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x00000001, 0x007fffff,
                              0x00800000, 0x7f7fffff, 0x3f7fffff, 0x4b000001, 0x40490fdb, 0xc0200000,
                              0x477fe000, 0x477ff000, 0x38800000, 0x33000001, 31,         32};
  std::mt19937 random(11);
  std::vector<Numbers> all;
  for (const uint32_t a : special) {
    for (const uint32_t b : special) all.push_back({a, b, special[random() % std::size(special)]});
  }
  while (all.size() % 32 != 0 || all.size() < 2048) {
    const uint32_t near = random() % 2 ? 0x3f000000 | (random() & 0xffffff) : random();
    all.push_back({static_cast<uint32_t>(random()), near, static_cast<uint32_t>(random() >> (random() % 32))});
  }
  return all;
}

std::vector<uint32_t> results(const std::string& body, const std::vector<Numbers>& in) {
  Memory memory;
  memory.add(in.data(), static_cast<int64_t>(in.size() * sizeof(Numbers)), false);
  std::vector<uint32_t> out(in.size());
  memory.add(out.data(), static_cast<int64_t>(4 * out.size()));
  const Module module(program(body));
  for (size_t at = 0; at < in.size(); at += 32) {
    launch(module.kernel("k"), {}, {32, 1, 1}, 0, Arguments(in.data() + at, out.data() + at), memory);
  }
  return out;
}

/// d is body(a, b, c) for all numbers that it gives a result for; floats may be any NaN where one is expected.
template <class Body>
void check(const std::string& instruction, Body body) {
  const std::vector<Numbers> in = numbers();
  const std::vector<uint32_t> found = results(instruction, in);
  int failures = 0;
  for (size_t i = 0; i < in.size() && failures < 3; ++i) {
    const auto value = body(in[i].a, in[i].b, in[i].c);
    uint32_t expected;
    if constexpr (std::is_same_v<std::remove_const_t<decltype(value)>, std::optional<uint32_t>>) {
      if (!value) continue;
      expected = *value;
    } else if constexpr (std::is_same_v<std::remove_const_t<decltype(value)>, float>) {
      if (std::isnan(value) && std::isnan(std::bit_cast<float>(found[i]))) continue;
      expected = std::bit_cast<uint32_t>(value);
    } else {
      expected = static_cast<uint32_t>(value);
    }
    if (found[i] == expected) continue;
    ++failures;
    char text[200];
    std::snprintf(text, sizeof text, "%s with a %08x, b %08x, c %08x: %08x; expected %08x", instruction.c_str(),
                  in[i].a, in[i].b, in[i].c, found[i], expected);
    lowrank::test::report(__FILE__, __LINE__, text);
  }
}

float f(uint32_t bits) { return std::bit_cast<float>(bits); }
int32_t s(uint32_t bits) { return std::bit_cast<int32_t>(bits); }

}  // namespace

TEST("PTX: integer instructions do what the manual says") {
  check("add.s32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return a + b; });
  check("mul.hi.s32 %d, %a, %b;",
        [](uint32_t a, uint32_t b, uint32_t) { return static_cast<uint32_t>(int64_t{s(a)} * s(b) >> 32); });
  check("mul.hi.u32 %d, %a, %b;",
        [](uint32_t a, uint32_t b, uint32_t) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); });
  check("mad.lo.s32 %d, %a, %b, %c;", [](uint32_t a, uint32_t b, uint32_t c) { return a * b + c; });
  check("mul.wide.s32 %rd4, %a, %b; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %d, %rd4;",
        [](uint32_t a, uint32_t b, uint32_t) {
          return static_cast<uint32_t>(static_cast<uint64_t>(int64_t{s(a)} * s(b)) >> 32);
        });
  check("mad.wide.u32 %rd4, %a, %b, %rd0; sub.s64 %rd4, %rd4, %rd0; shr.u64 %rd4, %rd4, 20; cvt.u32.u64 %d, %rd4;",
        [](uint32_t a, uint32_t b, uint32_t) { return static_cast<uint32_t>(uint64_t{a} * b >> 20); });
  check("or.b32 %r1, %b, 1; abs.s32 %r1, %r1; div.s32 %d, %a, %r1;", [](uint32_t a, uint32_t b, uint32_t) {
    return static_cast<uint32_t>(int64_t{s(a)} / s(s(b | 1) < 0 ? 0 - (b | 1) : b | 1));
  });
  check("or.b32 %r1, %b, 1; rem.u32 %d, %a, %r1;", [](uint32_t a, uint32_t b, uint32_t) { return a % (b | 1); });
  check("min.s32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return std::min(s(a), s(b)); });
  check("max.u32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return std::max(a, b); });
  check("shl.b32 %d, %a, %c;", [](uint32_t a, uint32_t, uint32_t c) { return c < 32 ? a << c : 0; });
  check("shr.s32 %d, %a, %c;", [](uint32_t a, uint32_t, uint32_t c) { return s(a) >> std::min(c, 31u); });
  check("shr.u32 %d, %a, %c;", [](uint32_t a, uint32_t, uint32_t c) { return c < 32 ? a >> c : 0; });
  check("lop3.b32 %d, %a, %b, %c, 0xca;", [](uint32_t a, uint32_t b, uint32_t c) { return (a & b) | (~a & c); });
  check("lop3.b32 %d, %a, %b, %c, 0x96;", [](uint32_t a, uint32_t b, uint32_t c) { return a ^ b ^ c; });
  check("shf.l.wrap.b32 %d, %a, %b, %c;",
        [](uint32_t a, uint32_t b, uint32_t c) { return c & 31 ? b << (c & 31) | a >> (32 - (c & 31)) : b; });
  check("shf.r.clamp.b32 %d, %a, %b, %c;", [](uint32_t a, uint32_t b, uint32_t c) {
    return c >= 32 ? b : c == 0 ? a : a >> c | b << (32 - c);
  });
  check("prmt.b32 %d, %a, %b, 0x7531;", [](uint32_t a, uint32_t b, uint32_t) {
    return (a >> 8 & 255) | (a >> 24) << 8 | (b >> 8 & 255) << 16 | (b >> 24) << 24;
  });
  check("prmt.b32 %d, %a, %b, 0x888f;",
        [](uint32_t a, uint32_t b, uint32_t) { return (b >> 31 ? 255u : 0u) | (a >> 7 & 1 ? 0xffffff00u : 0u); });
  check("bfe.u32 %d, %a, 5, 7;", [](uint32_t a, uint32_t, uint32_t) { return a >> 5 & 127; });
  check("bfe.s32 %d, %a, 28, 8;", [](uint32_t a, uint32_t, uint32_t) { return s(a) >> 28; });
  check("bfi.b32 %d, %a, %b, 4, 8;", [](uint32_t a, uint32_t b, uint32_t) { return (b & ~0xff0u) | (a & 255) << 4; });
  check("brev.b32 %d, %a; brev.b32 %d, %d;", [](uint32_t a, uint32_t, uint32_t) { return a; });
  check("popc.b32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return std::popcount(a); });
  check("clz.b32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return std::countl_zero(a); });
  check("bfind.u32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return 31 - std::countl_zero(a); });
  check("setp.lt.s32 %p1|%p2, %a, %b; selp.b32 %d, %b, %a, %p1; @%p2 mov.u32 %d, %c;",
        [](uint32_t a, uint32_t b, uint32_t c) { return s(a) < s(b) ? b : c; });
  check("setp.hs.u32 %p1, %a, %b; setp.ne.and.s32 %p2, %a, %c, !%p1; selp.b32 %d, 1, 0, %p2;",
        [](uint32_t a, uint32_t b, uint32_t c) { return a < b && a != c; });
  check("cvt.s8.s32 %h1, %a; cvt.s32.s16 %d, %h1;",
        [](uint32_t a, uint32_t, uint32_t) { return int32_t{static_cast<int8_t>(a)}; });
  check("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};",
        [](uint32_t a, uint32_t, uint32_t) { return a << 16 | a >> 16; });
}

TEST("PTX: floating-point instructions round as the manual says") {
  check("add.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return f(a) + f(b); });
  check("mul.rn.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return f(a) * f(b); });
  check("fma.rn.f32 %d, %a, %b, %c;", [](uint32_t a, uint32_t b, uint32_t c) { return std::fma(f(a), f(b), f(c)); });
  check("div.rn.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) { return f(a) / f(b); });
  check("sqrt.rn.f32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return std::sqrt(f(a)); });
  check("neg.f32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return a ^ 0x80000000; });
  check("min.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    if (std::isnan(f(a)) || std::isnan(f(b))) return f(std::isnan(f(a)) ? b : a);
    return f(a) == 0 && f(b) == 0 ? f(a | b) : std::fmin(f(a), f(b));
  });
  check("max.NaN.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    if (std::isnan(f(a)) || std::isnan(f(b))) return NAN;
    return f(a) == 0 && f(b) == 0 ? f(a & b) : std::fmax(f(a), f(b));
  });
  // A product of 48 bits is exact in double: its roundings are that number's neighbors.
  check("mul.rm.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    const double exact = static_cast<double>(f(a)) * f(b);
    auto near = static_cast<float>(exact);
    if (near > exact) near = std::nextafter(near, -INFINITY);
    return near;
  });
  check("add.ftz.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    const auto flushed = [](float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; };
    return flushed(flushed(f(a)) + flushed(f(b)));
  });
  check("add.sat.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    const float sum = f(a) + f(b);
    return sum > 0 ? std::min(sum, 1.0f) : 0.0f;
  });
  check("cvt.rn.bf16.f32 %h1, %a; mov.b32 %d, {%h1, 0};",
        [](uint32_t a, uint32_t, uint32_t) { return std::isnan(f(a)) ? 0x7fffu : uint32_t{bf16_from_f32(f(a))}; });
  check("cvt.rn.bf16x2.f32 %d, %a, %b;", [](uint32_t a, uint32_t b, uint32_t) {
    const auto narrow = [](uint32_t x) { return std::isnan(f(x)) ? 0x7fffu : uint32_t{bf16_from_f32(f(x))}; };
    return narrow(a) << 16 | narrow(b);
  });
  check("cvt.rn.f16.f32 %h1, %a; mov.b32 %d, {%h1, 0};",
        [](uint32_t a, uint32_t, uint32_t) { return std::isnan(f(a)) ? 0x7fffu : uint32_t{f16_from_f32(f(a))}; });
  check("mov.b32 {%h1, %h2}, %a; cvt.f32.f16 %d, %h2;",
        [](uint32_t a, uint32_t, uint32_t) { return f32_from_f16(static_cast<uint16_t>(a >> 16)); });
  check("cvt.rzi.s32.f32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) {
    const float x = f(a);
    return std::isnan(x) ? 0 : x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : static_cast<int32_t>(x);
  });
  check("cvt.rmi.f32.f32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return std::floor(f(a)); });
  check("cvt.rni.s32.f32 %d, %b;", [](uint32_t, uint32_t b, uint32_t) {
    const float x = std::nearbyint(f(b));
    return std::isnan(x) ? 0 : x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : static_cast<int32_t>(x);
  });
  check("cvt.rn.f32.u32 %d, %a;", [](uint32_t a, uint32_t, uint32_t) { return static_cast<float>(a); });
  check("{ .reg .f64 x, y, z; cvt.f64.f32 x, %a; cvt.f64.f32 y, %b; fma.rn.f64 z, x, y, x; cvt.rn.f32.f64 %d, z; }",
        [](uint32_t a, uint32_t b, uint32_t) {
          return static_cast<float>(
              std::fma(static_cast<double>(f(a)), static_cast<double>(f(b)), static_cast<double>(f(a))));
        });
  check("fma.rn.bf16x2 %d, %a, %b, %c;", [](uint32_t a, uint32_t b, uint32_t c) {
    uint32_t both = 0;
    for (const int shift : {0, 16}) {
      const auto part = [&](uint32_t x) {
        return static_cast<double>(f32_from_bf16(static_cast<uint16_t>(x >> shift)));
      };
      const double product = part(a) * part(b), sum = product + part(c);
      // The sum is exact where the smaller of them is not too small.
      const double ratio = std::fabs(product / part(c));
      if (std::isfinite(sum) && part(c) != 0 && product != 0 && (ratio > 0x1p30 || ratio < 0x1p-30))
        return std::optional<uint32_t>();
      // Rounded to odd in fp32, then to the nearest bf16.
      auto rounded = static_cast<float>(sum);
      if (rounded != sum && std::isfinite(rounded) && (std::bit_cast<uint32_t>(rounded) & 1) == 0) {
        rounded = std::nextafter(rounded, sum > rounded ? INFINITY : -INFINITY);
      }
      both |= (std::isnan(rounded) ? 0x7fffu : uint32_t{bf16_from_f32(rounded)}) << shift;
    }
    return std::optional(both);
  });
  check("setp.ltu.f32 %p1, %a, %b; selp.b32 %d, 1, 0, %p1;",
        [](uint32_t a, uint32_t b, uint32_t) { return !(f(a) >= f(b)); });
  check("ex2.approx.f32 %d, %b;",
        [](uint32_t, uint32_t b, uint32_t) { return static_cast<float>(std::exp2(static_cast<double>(f(b)))); });
}

TEST("PTX: lanes exchange what the manual says") {
  const std::vector<Numbers> in = [] {
    std::vector<Numbers> all;
    for (uint32_t lane = 0; lane < 32; ++lane) all.push_back({lane * 3, lane % 4, 1u << lane % 5});
    return all;
  }();
  const auto lanes = [&](const std::string& body, auto expected) {
    const auto found = results(body, in);
    for (uint32_t lane = 0; lane < 32; ++lane) CHECK_EQ(found[lane], static_cast<uint32_t>(expected(lane)));
  };
  lanes("shfl.sync.bfly.b32 %d, %a, 5, 31, -1;", [](uint32_t l) { return (l ^ 5) * 3; });
  lanes("shfl.sync.down.b32 %d|%p1, %a, 4, 31, -1; @!%p1 mov.u32 %d, 7;",
        [](uint32_t l) { return l + 4 < 32 ? (l + 4) * 3 : 7; });
  lanes("shfl.sync.up.b32 %d|%p1, %a, 4, 0, -1; @!%p1 mov.u32 %d, 7;",
        [](uint32_t l) { return l >= 4 ? (l - 4) * 3 : 7; });
  // Segments of eight lanes: the mask of the segment is 24.
  lanes("shfl.sync.idx.b32 %d, %a, 2, 0x181f, -1;", [](uint32_t l) { return (l / 8 * 8 + 2) * 3; });
  lanes("setp.eq.u32 %p1, %b, 1; vote.sync.ballot.b32 %d, %p1, -1;", [](uint32_t) { return 0x22222222u; });
  lanes("match.any.sync.b32 %d, %b, -1;", [](uint32_t l) { return 0x11111111u << l % 4; });
  lanes("redux.sync.max.u32 %d, %a, -1;", [](uint32_t) { return 93; });
  lanes("redux.sync.or.b32 %d, %c, -1;", [](uint32_t) { return 31; });
  lanes("setp.eq.u32 %p1, %b, 1; bar.red.popc.u32 %d, 0, %p1;", [](uint32_t) { return 8; });
  // Lanes part and meet again.
  lanes("setp.eq.u32 %p1, %b, 1; mov.u32 %d, 1; @%p1 bra L; mov.u32 %d, 2; L: shfl.sync.bfly.b32 %d, %d, 1, 31, -1;",
        [](uint32_t l) { return (l ^ 1) % 4 == 1 ? 1 : 2; });
  lanes(
      "ts: .branchtargets L0, L1, L2, L3; brx.idx %b, ts; L0: mov.u32 %d, 5; bra.uni E; L1: mov.u32 %d, 6; bra.uni E; "
      "L2: mov.u32 %d, 7; bra.uni E; L3: mov.u32 %d, 8; E:",
      [](uint32_t l) { return 5 + l % 4; });
}

TEST("PTX: programs without a defined result are stopped by name") {
  const std::vector<Numbers> in(32, {1, 2, 3});
  const auto fault = [&](const std::string& body) { return fault_of([&] { results(body, in); }); };
  const std::string shared =
      ".shared .align 4 .b8 s[128]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.s32 %r1, %r1, %r2; ";
  CHECK_EQ(fault(shared + "st.shared.u32 [%r1], %a; bar.warp.sync -1; ld.shared.u32 %d, [s];"), "none");
  CHECK_EQ(fault(shared + "st.shared.u32 [%r1], %a; ld.shared.u32 %d, [s];"), "race");
  CHECK_EQ(fault(shared + "st.shared.u32 [s], %a; mov.u32 %d, 0;"), "race");
  CHECK_EQ(fault(shared + "ld.shared.u32 %d, [s]; st.shared.u32 [%r1], %a;"), "race");
  CHECK_EQ(fault(shared + "st.shared.u32 [%r1+4], %a; mov.u32 %d, 0;"), "bounds");
  CHECK_EQ(fault(shared + "st.shared.u16 [%r1+1], %h1; mov.u32 %d, 0;"), "alignment");
  CHECK_EQ(fault("setp.lt.u32 %p1, %r0, 7; @%p1 bar.sync 0; mov.u32 %d, 0;"), "divergence");
  CHECK_EQ(fault("setp.lt.u32 %p1, %r0, 7; @%p1 shfl.sync.bfly.b32 %d, %a, 1, 31, -1; mov.u32 %d, 0;"), "none");
  CHECK_EQ(fault("setp.lt.u32 %p1, %r0, 7; @%p1 shfl.sync.bfly.b32 %d, %a, 1, 31, -1; bar.sync 0; mov.u32 %d, 0;"),
           "divergence");
  CHECK_EQ(fault("shfl.sync.bfly.b32 %d, %a, 1, 31, 0xffff;"), "divergence");
  CHECK_EQ(fault("ld.global.u32 %d, [%rd0+384];"), "bounds");
  CHECK_EQ(fault("ld.global.u32 %d, [%rd0+-4];"), "bounds");
  CHECK_EQ(fault("st.global.u32 [%rd0], %a; mov.u32 %d, 0;"), "bounds");
  CHECK_EQ(fault("ld.global.v4.u32 {%d, %r1, %r2, %r3}, [%rd2];"), "alignment");
  CHECK_EQ(fault("trap; mov.u32 %d, 0;"), "trap");
}

TEST("PTX: an instruction that is not known is refused, and so is a modifier or an operand") {
  for (const char* body :
       {"wgmma.fence.sync.aligned;", "add.rn.sat.relu.f32 %d, %a, %b;", "cvt.bf16.f32 %h1, %a;", "add.f32 %d, %a, %h1;",
        "atom.global.add.f32 %d, [%rd0], %a;", "mov.u32 %d, %clock;", "bra nowhere;", "ld.global.b128 %d, [%rd0];"}) {
    try {
      const Module module(program(body));
      module.kernel("k");
      lowrank::test::report(__FILE__, __LINE__, std::string(body) + " was taken");
    } catch (const Unsupported&) {
    }
  }
}

TEST("PTX: what was never written is random, and shared memory is NaN") {
  const std::vector<Numbers> in(32, {1, 2, 3});
  const auto registers = results("mov.u32 %d, %r9;", in);
  CHECK(registers[0] != registers[1] && registers[1] != registers[2]);
  const auto shared = results(".shared .align 4 .b8 s[128]; ld.shared.u32 %d, [s+64];", in);
  CHECK(std::isnan(f(shared[3])));
}

TEST("PTX: two blocks of a launch may not touch what one of them writes") {
  const std::string text = program("mov.u32 %d, %ctaid.x;");
  const std::vector<Numbers> in(32, {1, 2, 3});
  Memory memory;
  memory.add(in.data(), static_cast<int64_t>(in.size() * sizeof(Numbers)));
  std::vector<uint32_t> out(32);
  memory.add(out.data(), 128);
  const Module module(text);
  const Arguments args(in.data(), out.data());
  CHECK_EQ(fault_of([&] { launch(module.kernel("k"), {1, 1, 1}, {32, 1, 1}, 0, args, memory); }), "none");
  CHECK_EQ(fault_of([&] { launch(module.kernel("k"), {2, 1, 1}, {32, 1, 1}, 0, args, memory); }), "race");
  // One reads what another writes.
  const Arguments same(in.data(), in.data());
  CHECK_EQ(fault_of([&] { launch(module.kernel("k"), {2, 1, 1}, {32, 1, 1}, 0, same, memory); }), "race");
}

TEST("PTX: a launch that the kernel does not allow is refused") {
  const std::string text = changed(program("mov.u32 %d, 0;"), "out) {", "out) .maxntid 64, 1, 1 {");
  const Module module(text);
  const Memory memory;
  const std::vector<uint32_t> none;
  const auto fault = [&](Dimensions grid, Dimensions block, int64_t shared, const Arguments& args) {
    return fault_of([&] { launch(module.kernel("k"), grid, block, shared, args, memory); });
  };
  const Arguments args(none.data(), none.data());
  CHECK_EQ(fault({}, {96, 1, 1}, 0, args), "launch");
  CHECK_EQ(fault({1, 70000, 1}, {32, 1, 1}, 0, args), "launch");
  CHECK_EQ(fault({}, {32, 1, 1}, 64, args), "launch");
  CHECK_EQ(fault({}, {32, 1, 1}, 0, Arguments(none.data())), "launch");
}
