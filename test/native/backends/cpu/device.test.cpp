#include "backends/cpu/device.h"

#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "core/memory.h"

using namespace lowrank;

namespace {

/// Operands of zeros.
class Zeros {
 public:
  Matrix matrix(DType dtype, int64_t rows, int64_t cols) { return {room(rows * cols * size_of(dtype)), dtype, cols}; }
  Ptr<float> floats(int64_t count) { return room(count * 4).as<float>(); }
  Factor factor(int64_t rows, int64_t cols) { return {rows, cols, -1, 0, floats(rows * cols), cols}; }

 private:
  Ptr<std::byte> room(int64_t bytes) {
    blocks_.emplace_back(Category::workspace, bytes);
    return cpu::address_of(blocks_.back().data());
  }
  std::vector<Block> blocks_;
};

/// Launches with the promised room and not a byte more: what follows it must stay as it was.
void launch(Pool& pool, cpu::Level level, const Kernel& kernel) {
  constexpr int64_t kGuard = 1 << 16;
  cpu::CpuDevice device(pool, cpu::kernels(level), cpu::CpuSizes(pool.threads()));
  const int64_t bytes = device.sizes().workspace(kernel);
  const Block room(Category::workspace, bytes + kGuard);
  std::byte* const end = room.data() + bytes;
  std::fill_n(end, kGuard, std::byte{0x5a});
  device.launch(kernel, cpu::address_of(room.data()));
  CHECK(std::all_of(end, end + kGuard, [](std::byte b) { return b == std::byte{0x5a}; }));
}

}  // namespace

TEST("kernels keep to the workspace that they promise, at every level") {
  std::mt19937 random(2);
  const auto pick = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (const cpu::Level level : cpu::kLevels) {
    if (!cpu::available(level)) continue;
    for (int i = 0; i < 12; ++i) {
      Pool pool(static_cast<int>(pick(3)));
      Zeros make;
      const Precision precision = i % 2 == 0 ? Precision::f32 : Precision::bf16;
      const DType dtype = operand_of(precision);
      const int64_t m = pick(70), n = pick(90), k = i % 3 == 0 ? 2048 + pick(3000) : pick(200);
      const Segment nt{make.matrix(dtype, m, k), make.factor(n, k)}, nn{nt.x, make.factor(k, n)};
      for (const DType out : {DType::f32, dtype}) {
        launch(pool, level, GemmNt{precision, m, n, {&nt, 1}, {make.matrix(out, m, n)}});
        launch(pool, level, GemmNn{precision, m, n, {&nn, 1}, {make.matrix(out, m, n)}});
      }
      const int64_t rank = pick(40);
      launch(pool, level,
             ReduceTokens{precision, k, make.matrix(dtype, k, rank), rank, make.matrix(dtype, k, n), n, 1,
                          make.floats(rank * n), n, false});
      const auto dim = static_cast<int32_t>(8 * pick(8));
      const int64_t tokens = pick(150);
      const std::vector<int32_t> seqlens{0, static_cast<int32_t>(tokens / 2), static_cast<int32_t>(tokens)};
      const auto of = [&](int64_t heads) { return make.matrix(dtype, tokens, heads * dim); };
      const Heads shape{4, 2, dim, 0, 0.1f};
      const Matrix q = of(4), key = of(2), value = of(2), attended = of(4);
      const Ptr<float> lse = make.floats(tokens * 4);
      launch(pool, level, Attention{tokens, tokens, shape, seqlens, q, key, value, attended, lse});
      launch(pool, level,
             AttentionBackward{tokens, shape, seqlens, q, key, value, attended, lse, of(4), of(4), of(2), of(2)});
      const KroneckerShape sides{pick(20), pick(20), pick(40), pick(40), i % 2 == 0 ? 0 : pick(6)};
      const auto factors = [&] {
        return KroneckerPair{sides, make.floats(sides.l * sides.p), make.floats(sides.d_elements()),
                             sides.r > 0 ? make.floats(sides.d2_elements()) : Ptr<float>()};
      };
      const KroneckerPair pair = factors(), to = factors();
      const Matrix x = make.matrix(dtype, tokens, sides.in()), dy = make.matrix(dtype, tokens, sides.out());
      launch(pool, level, Kronecker{tokens, pair, 1, {}, x, {}, make.floats(tokens * sides.out())});
      launch(pool, level,
             KroneckerBackward{tokens, pair, 1, {}, x, dy, to.c, to.d, to.d2, make.floats(tokens * sides.in()), false});
    }
  }
}

TEST("larger kernels never take less workspace") {
  std::mt19937 random(1);
  const auto pick = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (int i = 0; i < 2000; ++i) {
    const cpu::CpuSizes sizes(static_cast<int>(pick(8)));
    const DType dtype = pick(2) == 1 ? DType::f32 : DType::bf16;
    const int64_t m = pick(3000), n = pick(9000), k = pick(9000), more = pick(500);
    const auto product = [&](int64_t rows, const Segment* segment) {
      return sizes.workspace(GemmNt{Precision::bf16, rows, n, {segment, 1}, {{{}, dtype, n}}});
    };
    const Segment segment{{{}, dtype, k}, {n, k}};
    CHECK_LE(product(m, &segment), product(m + more, &segment));
    const auto attention = [&](int64_t tokens, int64_t keys) {
      Attention kernel{};
      kernel.tokens = tokens;
      kernel.keys = keys;
      kernel.shape = {8, 2, 64, 0, 1};
      kernel.q.dtype = dtype;
      return sizes.workspace(kernel);
    };
    CHECK_LE(attention(m, m), attention(m, m + more));
    CHECK_LE(attention(m, m + more), attention(m + more, m + more));
    const auto reduction = [&](int64_t tokens, int64_t rank) {
      return sizes.workspace(ReduceTokens{Precision::bf16, tokens, {}, rank, {}, n, 1, {}, n, false});
    };
    CHECK_LE(reduction(m, k), reduction(m + more, k));
    CHECK_LE(reduction(m, k), reduction(m, k + more));
    const auto back = [&](int64_t rows, const Segment* segment) {
      return sizes.workspace(GemmNn{Precision::bf16, rows, n, {segment, 1}, {{{}, dtype, n}}});
    };
    const Segment narrow{{{}, dtype, k}, {k, n}}, wide{{{}, dtype, k + more}, {k + more, n}};
    CHECK_LE(back(m, &narrow), back(m + more, &narrow));
    CHECK_LE(back(m, &narrow), back(m, &wide));
    const auto attention_back = [&](int64_t tokens) {
      AttentionBackward kernel{};
      kernel.tokens = tokens;
      kernel.shape = {8, 2, 64, 0, 1};
      kernel.q.dtype = dtype;
      return sizes.workspace(kernel);
    };
    CHECK_LE(attention_back(m), attention_back(m + more));
    const KroneckerPair pair{{pick(64), pick(64), pick(64), pick(64), pick(2) == 1 ? 0 : pick(16)}, {}, {}, {}};
    const auto kronecker = [&](int64_t tokens) {
      Kronecker kernel{};
      kernel.tokens = tokens;
      kernel.pair = pair;
      return sizes.workspace(kernel);
    };
    CHECK_LE(kronecker(m), kronecker(m + more));
    const auto projection = [&](int64_t rank) { return sizes.workspace(ProjectGradient{rank, n, {}, m, 1, {}}); };
    CHECK_LE(projection(k % 512), projection(k % 512 + more));
    const auto orthogonal = [&](int64_t rows, int64_t rank, bool transposed) {
      const OrthogonalPiece piece{rows, rank, transposed, 1, {}, {}};
      return sizes.workspace(Orthogonal{{&piece, 1}});
    };
    for (const bool transposed : {false, true}) {
      CHECK_LE(orthogonal(m, k % 512, transposed), orthogonal(m + more, k % 512, transposed));
      CHECK_LE(orthogonal(m, k % 512, transposed), orthogonal(m, k % 512 + more, transposed));
    }
  }
}

TEST("a product into fp32 sums in place, and needs room for the threads alone") {
  const cpu::CpuSizes sizes(2);
  const Segment segment{{{}, DType::bf16, 16384}, {4096, 16384}};
  const auto of = [&](DType dtype) {
    return sizes.workspace(GemmNt{Precision::bf16, 512, 4096, {&segment, 1}, {{{}, dtype, 4096}}});
  };
  CHECK_EQ(of(DType::bf16) - of(DType::f32), int64_t{512} * 4096 * 4);
}
