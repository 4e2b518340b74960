// Rates of the CPU operators that are bound by memory, at the shapes of a 135M model, per level, in GB/s of what they
// must read and write; those bound by arithmetic are timed by benchmarks/laboratory/kernels.mjs. Levels are interleaved
// round by round, and the best of the rounds is printed, since other work on the machine only ever slows a round down.
//
//   g++ -std=c++20 -O3 -ffp-contract=off -Inative benchmarks/kernels/ops_bench.cpp native/backends/cpu/*.cpp
//       native/core/{pool,memory}.cpp native/kernels/*.cpp native/quant/*.cpp -lpthread -o /tmp/ops_bench &&
//       /tmp/ops_bench
//   ops_bench [threads] [level...]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "backends/cpu/device.h"
#include "kernels/kernels.h"
#include "os/cores.h"

namespace lowrank::cpu {
namespace {

constexpr int kRounds = 7;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Buffer {
  Buffer(DType type, int64_t count_rows, int64_t count_cols)
      : dtype(type), cols(count_cols), bytes(static_cast<size_t>(count_rows * count_cols * size_of(type)) + 64) {
    uint32_t state = 1;
    for (int64_t i = 0; i < count_rows * count_cols; ++i) {
      state = state * 1664525u + 1013904223u;
      const float value = static_cast<float>(static_cast<int32_t>(state) * 0x1p-31);
      if (type == DType::f32) reinterpret_cast<float*>(bytes.data())[i] = value;
      if (type == DType::bf16) reinterpret_cast<uint16_t*>(bytes.data())[i] = bf16_from_f32(value);
    }
  }
  Matrix at() { return {address_of(bytes.data()), dtype, cols}; }
  Ptr<float> ptr() { return address_of(floats()); }
  float* floats() { return reinterpret_cast<float*>(bytes.data()); }
  DType dtype;
  int64_t cols;
  std::vector<std::byte> bytes;
};

struct Bench {
  Pool pool;
  std::vector<Level> levels;
  std::vector<std::byte> room;

  /// Runs work(kernels) for every level and prints `amount` / time; amount in 1e9 of `unit`.
  void measure(const std::string& title, double amount, const char* unit,
               const std::function<void(const Kernels&)>& work) {
    std::vector<double> best(levels.size(), 1e30);
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < levels.size(); ++i) {
        const Kernels& level = kernels(levels[i]);
        const double start = seconds();
        int calls = 0;
        do {
          work(level);
          ++calls;
        } while (seconds() - start < 0.02);
        best[i] = std::min(best[i], (seconds() - start) / calls);
      }
    }
    std::printf("%-44s", title.c_str());
    for (size_t i = 0; i < levels.size(); ++i) {
      std::printf("  %s %.1f %s (%.3f ms)", name_of(levels[i]), amount / best[i] / 1e9, unit, best[i] * 1e3);
    }
    std::printf("\n");
    std::fflush(stdout);
  }

  void run(const Kernels& level, const Kernel& kernel) {
    const auto bytes = static_cast<size_t>(CpuSizes(pool.threads()).workspace(kernel));
    if (room.size() < bytes + 64) room.resize(bytes + 64);
    std::byte* const aligned = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64) % 64;
    level.table[kernel.index()]({pool, aligned}, value_of(kernel));
  }

  void decode(int32_t keys, DType dtype) {
    const int32_t heads = 9, kv_heads = 3, dim = 64;
    const std::vector<int32_t> seqlens{0, 1};
    Buffer q(dtype, 1, heads * dim), k(dtype, keys, kv_heads * dim), v(dtype, keys, kv_heads * dim),
        out(dtype, 1, heads * dim);
    const Attention kernel{1, keys, {heads, kv_heads, dim, 0, 0.125f}, seqlens, q.at(), k.at(), v.at(), out.at(), {}};
    measure("attention of one query, " + std::to_string(keys) + " keys " + name_of(dtype),
            2.0 * keys * kv_heads * dim * size_of(dtype), "GB/s", [&](const Kernels& level) { run(level, kernel); });
  }

  void elementwise(DType dtype) {
    const int64_t tokens = 2048, hidden = 576, wide = 1536;
    const double size = size_of(dtype), mega = 1.0 * tokens * hidden, mega_wide = 1.0 * tokens * wide;
    const std::string type = std::string(" ") + name_of(dtype);
    Buffer x(DType::f32, tokens, hidden), dx(DType::f32, tokens, hidden), y(dtype, tokens, hidden),
        z(dtype, tokens, hidden);
    Buffer gate(dtype, tokens, wide), up(dtype, tokens, wide), act(dtype, tokens, wide), w(DType::f32, 1, hidden);
    Buffer rstd(DType::f32, tokens, 1);
    std::vector<float> cosine(static_cast<size_t>(tokens) * 32, 0.8f), sine(static_cast<size_t>(tokens) * 32, 0.6f);
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < tokens; ++i) positions.push_back(i);
    measure("rms_norm 2048x576" + type, mega * (4 + size), "GB/s", [&](const Kernels& level) {
      run(level, RmsNorm{tokens, 1, hidden, x.at(), w.ptr(), 1e-5f, y.at(), rstd.ptr()});
    });
    measure("rms_norm_backward 2048x576" + type, mega * (12 + size), "GB/s", [&](const Kernels& level) {
      run(level, RmsNormBackward{tokens, 1, hidden, y.at(), x.at(), w.ptr(), rstd.ptr(), dx.at()});
    });
    measure("rope 2048x9x64" + type, mega * 2 * size, "GB/s", [&](const Kernels& level) {
      run(level, Rope{tokens, 9, 64, 64, y.at(), address_of(positions.data()), address_of(cosine.data()),
                      address_of(sine.data()), false});
    });
    measure("gated_unit 2048x1536" + type, mega_wide * 3 * size, "GB/s", [&](const Kernels& level) {
      run(level, GatedUnit{Activation::silu, tokens, wide, gate.at(), up.at(), act.at()});
    });
    Buffer dgate(dtype, tokens, wide), dup(dtype, tokens, wide);
    measure("gated_unit_backward 2048x1536" + type, mega_wide * 5 * size, "GB/s", [&](const Kernels& level) {
      run(level, GatedUnitBackward{Activation::silu, tokens, wide, act.at(), gate.at(), up.at(), dgate.at(), dup.at()});
    });
    measure("dropout 2048x576" + type, mega * 2 * size, "GB/s",
            [&](const Kernels& level) { run(level, Dropout{tokens, hidden, y.at(), 0.05f, 7, z.at()}); });
    measure("gather_rows 2048x576 f32 to" + type, mega * (4 + size), "GB/s", [&](const Kernels& level) {
      run(level, GatherRows{tokens, hidden, x.at(), address_of(positions.data()), y.at()});
    });
    const int64_t rows = 128, vocab = 49152;
    Buffer logits(DType::f32, rows, vocab), loss(DType::f32, rows, 1);
    const std::vector<int32_t> labels(rows, 77);
    const Matrix in_place = {address_of(logits.bytes.data()), dtype, dtype == DType::f32 ? vocab : 2 * vocab};
    measure(
        "cross_entropy 128x49152 in place" + type, 1.0 * rows * vocab * (4 + size), "GB/s", [&](const Kernels& level) {
          run(level, CrossEntropy{rows, vocab, logits.at(), address_of(labels.data()), 0.01f, loss.ptr(), in_place});
        });
  }

  void flat() {
    const int64_t count = 8 << 20;
    Buffer a(DType::f32, 1, count), b(DType::f32, 1, count), c(DType::f32, 1, count), d(DType::f32, 1, count);
    std::fill(d.floats(), d.floats() + count, 0.5f);
    double total = 0;
    measure("sum_of_squares 8 Mi", 4.0 * count, "GB/s",
            [&](const Kernels& level) { run(level, SumOfSquares{count, a.ptr(), address_of(&total)}); });
    std::vector<uint8_t> bytes(2 * count, 140);
    std::vector<float> absmax(2 * count / kMomentBlock, 0.5f);
    const Moments m{{}, address_of(bytes.data()), address_of(absmax.data())};
    const Moments root_v{{}, m.codes + count, m.absmax + count / kMomentBlock};
    const UpdatePiece floats{count, 1, c.ptr(), a.ptr(), {b.ptr()}, {d.ptr()}, 1e-4f, 0.01f, 10};
    const UpdatePiece codes{count, 1, c.ptr(), a.ptr(), m, root_v, 1e-4f, 0.01f, 10};
    for (const auto& [name, piece] : {std::pair{"", &floats}, {"_8bit", &codes}}) {
      measure(std::string("adamw") + name + " 8 Mi", 1.0 * count, "G numbers/s",
              [&](const Kernels& level) { run(level, AdamW{0.9f, 0.999f, 1e-8f, 1.0f, {piece, 1}}); });
      measure(std::string("lion") + name + " 8 Mi", 1.0 * count, "G numbers/s",
              [&](const Kernels& level) { run(level, Lion{0.9f, 0.99f, 1.0f, {piece, 1}}); });
    }
  }
};

int run(int argc, char** argv) {
  Bench bench{Pool(argc > 1 ? std::atoi(argv[1]) : os::usable_cores()), {}, {}};
  for (const Level level : kLevels) {
    bool wanted = argc <= 2 && level != Level::reference;
    for (int i = 2; i < argc; ++i) wanted = wanted || argv[i] == std::string(name_of(level));
    if (wanted && available(level)) bench.levels.push_back(level);
  }
  std::printf("%d threads, best of %d rounds\n", bench.pool.threads(), kRounds);
  for (const DType dtype : {DType::f32, DType::bf16}) bench.decode(4096, dtype);
  for (const DType dtype : {DType::f32, DType::bf16}) bench.elementwise(dtype);
  bench.flat();
  return 0;
}

}  // namespace
}  // namespace lowrank::cpu

int main(int argc, char** argv) { return lowrank::cpu::run(argc, argv); }
