// Rates of the matrix kernels at every level this machine has, next to the arithmetic peak measured beside them.
//
//   g++ -std=c++20 -O3 -ffp-contract=off -Inative benchmarks/kernels/gemm_bench.cpp native/backends/cpu/*.cpp
//       native/core/{pool,memory}.cpp native/quant/*.cpp -lpthread -o /tmp/gemm_bench && /tmp/gemm_bench
//   gemm_bench [--level NAME]... [--format four_bit|bf16|f16|f32|q4_0|q4_k|...] [--rank R] [--threads N] [--rounds N] [--quick]
//
// Weights are fresh memory for every call, as in a training step, where each layer has its own. The best of several
// rounds is printed: other processes only ever make a kernel slower. One thread is timed by its CPU time, which leaves
// out the slices that others took.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "backends/cpu/kernels.h"
#include "core/memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using namespace lowrank;
using namespace lowrank::cpu;

bool count_cpu_time = false;

double now() {
  if (count_cpu_time) {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
double best_seconds(int rounds, Body&& body) {
  double best = 1e30;
  for (int round = 0; round < rounds; ++round) {
    const double start = now();
    body(round);
    best = std::min(best, now() - start);
  }
  return best;
}

#if defined(__x86_64__)
constexpr int64_t kPeakLoops = 2000000;
constexpr int kChains = 12;

#define LOWRANK_PEAK(name, isa, type, flops, init, step)                                               \
  __attribute__((target(isa))) double name() {                                                         \
    type c[kChains], a = init;                                                                         \
    for (auto& chain : c) chain = a;                                                                   \
    for (int64_t i = 0; i < kPeakLoops; ++i) {                                                         \
      _Pragma("GCC unroll 16") for (int j = 0; j < kChains; ++j) step;                                 \
      asm volatile("" : "+x"(a));                                                                      \
    }                                                                                                  \
    for (auto& chain : c) asm volatile("" ::"x"(chain));                                               \
    return static_cast<double>(kPeakLoops) * kChains * flops;                                          \
  }
LOWRANK_PEAK(peak_avx2, "avx2,fma", __m256, 16, _mm256_set1_ps(1e-20f), c[j] = _mm256_fmadd_ps(a, a, c[j]))
LOWRANK_PEAK(peak_avx512, "avx512f", __m512, 32, _mm512_set1_ps(1e-20f), c[j] = _mm512_fmadd_ps(a, a, c[j]))
LOWRANK_PEAK(peak_dot, "avx512f,avx512bf16", __m512, 64, _mm512_setzero_ps(),
             c[j] = _mm512_dpbf16_ps(c[j], (__m512bh)a, (__m512bh)a))
#undef LOWRANK_PEAK

__attribute__((target("amx-tile,amx-bf16"))) double peak_amx() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; ++i) config.row_bytes[i] = 64, config.rows[i] = 16;
  asm volatile("" ::"r"(&config) : "memory");  // GCC's intrinsic admits to reading the first eight bytes only
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  constexpr int64_t kLoops = 200000;
  for (int64_t i = 0; i < kLoops; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(kLoops) * 4 * 2 * 16 * 16 * 32;
}

/// Operations per second of all threads together, with operands in registers.
double peak(Level level, Precision precision, Pool& pool, int rounds) {
  double (*loop)() = peak_avx2;
  if (level >= Level::avx512) loop = peak_avx512;
  if (precision == Precision::bf16 && level == Level::avx512bf16) loop = peak_dot;
  if (precision == Precision::bf16 && level == Level::amx) loop = peak_amx;
  double operations = 0;
  const double seconds = best_seconds(rounds, [&](int) {
    pool.run([&](int thread, int) {
      const double own = loop();
      if (thread == 0) operations = own;
    });
  });
  return operations * pool.threads() / seconds;
}
#else
double peak(Level, Precision, Pool&, int) { return 0; }
#endif

/// Layers of one shape whose weights together exceed the second-level caches.
struct Layers {
  std::vector<WeightView> views;
  Block data, scales;

  Layers(WeightFormat format, GgmlType ggml, int64_t rows, int64_t cols) {
    const int64_t blocks = rows * cols / kCodeBlock;
    const int64_t bytes = format == WeightFormat::four_bit   ? blocks * kCodeBlock / 2
                          : format == WeightFormat::ggml ? rows * layout_of(ggml).row_bytes(cols)
                          : format == WeightFormat::f32 ? rows * cols * 4
                                                        : rows * cols * 2;
    const int64_t count = std::clamp<int64_t>((int64_t{24} << 20) / bytes, 1, 64);
    data = Block(Category::weights, bytes * count);
    scales = Block(Category::quantization_constants, blocks * 4 * count);
    uint32_t random = 1;
    for (int64_t i = 0; i < bytes * count; ++i) {
      random = random * 1664525u + 1013904223u;
      // Any byte is four bits twice; for floats the upper byte of each 16-bit half is kept near one, and so are the scales
      // of blocks, wherever they lie.
      data.data<uint8_t>()[i] = static_cast<uint8_t>(format == WeightFormat::four_bit || i % 2 == 0 ? random >> 24 : 0x3f);
    }
    std::fill_n(scales.data<float>(), blocks * count, 0.02f);
    for (int64_t i = 0; i < count; ++i) {
      WeightView view;
      view.format = format;
      view.ggml = ggml;
      view.rows = rows;
      view.cols = cols;
      view.ld = cols;
      view.data = data.data() + i * bytes;
      view.absmax = scales.data<float>() + i * blocks;
      views.push_back(view);
    }
  }
};

/// Touches every page: memory never written to is one page of zeros, which is faster to read than any activation.
void fill(const Block& block, DType type) {
  uint32_t random = 1;
  for (int64_t i = 0; i < block.bytes() / size_of(type); ++i) {
    random = random * 1664525u + 1013904223u;
    const float value = static_cast<float>(random >> 8) * 0x1p-23f - 1.0f;
    if (type == DType::f32) {
      block.data<float>()[i] = value;
    } else {
      block.data<uint16_t>()[i] = bf16_from_f32(value);
    }
  }
}

struct Shape {
  int64_t n, k;
};

struct Options {
  std::vector<Level> levels;
  WeightFormat format = WeightFormat::four_bit;
  GgmlType ggml = GgmlType::q8_0;
  const char* format_name() const {
    return format == WeightFormat::ggml ? layout_of(ggml).name : lowrank::name_of(format);
  }
  int threads = usable_cores();
  int rounds = 9;
  int64_t rank = 16;
  bool quick = false;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--quick") {
      options.quick = true;
      continue;
    }
    ++i;
    if (flag == "--threads") {
      options.threads = std::max(1, std::atoi(value.c_str()));
    } else if (flag == "--rounds") {
      options.rounds = std::max(1, std::atoi(value.c_str()));
    } else if (flag == "--rank") {
      options.rank = std::max(1, std::atoi(value.c_str()));
    } else if (flag == "--level") {
      for (Level level : kLevels) {
        if (value == name_of(level)) options.levels.push_back(level);
      }
    } else if (flag == "--format") {
      for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::f16, WeightFormat::four_bit}) {
        if (value == lowrank::name_of(format)) options.format = format;
      }
      for (int type = 0; type < kGgmlTypes; ++type) {
        if (value != kGgmlLayouts[type].name) continue;
        options.format = WeightFormat::ggml;
        options.ggml = static_cast<GgmlType>(type);
      }
    } else {
      std::fprintf(stderr, "gemm_bench: unknown flag %s\n", flag.c_str());
      std::exit(2);
    }
  }
  if (options.levels.empty()) {
    for (Level level : kLevels) {
      if (level != Level::reference && available(level)) options.levels.push_back(level);
    }
  }
  return options;
}

void measure(const Options& options, Level level, Precision precision, Pool& pool) {
  const GemmKernels& gemm = kernels(level).gemm;  // first of all: asks the system for the tile registers
  const double ceiling = peak(level, precision, pool, options.rounds);
  const char* precision_name = precision == Precision::f32 ? "f32" : "bf16";
  std::printf("\n%s %s, %d threads, weights %s: peak %.0f GFLOP/s\n", name_of(level), precision_name, pool.threads(),
              options.format_name(), ceiling / 1e9);
  std::printf("%18s %6s %20s %20s %20s\n", "N x K", "M", "y = x W^T", "dx = dy W",
              ("dA (r = " + std::to_string(options.rank) + ")").c_str());
  const DType type = precision == Precision::f32 ? DType::f32 : DType::bf16;
  std::vector<Shape> shapes = {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {49152, 576}, {2048, 2048}, {4096, 4096}};
  if (options.quick) shapes = {{576, 576}, {1536, 576}, {576, 1536}, {2048, 2048}};
  for (const Shape& shape : shapes) {
    const bool head = shape.n > 10000;
    if (options.format == WeightFormat::ggml && shape.k % layout_of(options.ggml).elements != 0) continue;
    const Layers layers(head ? WeightFormat::bf16 : options.format, options.ggml, shape.n, shape.k);
    for (int64_t m : head ? std::vector<int64_t>{128, 256} : std::vector<int64_t>{128, 512, 2048}) {
      const Block x(Category::activations, m * shape.k * size_of(type)), y(Category::activations, m * shape.n * 4);
      const Block dy(Category::activations, m * shape.n * size_of(type)), dx(Category::activations, m * shape.k * 4);
      const Block u(Category::activations, m * options.rank * size_of(type));
      const Block out(Category::gradients, options.rank * shape.k * 4);
      fill(x, type);
      fill(dy, type);
      fill(u, type);
      const int64_t forward[] = {shape.k}, backward[] = {shape.n};
      const Block workspace(Category::workspace,
                            std::max({gemm_workspace(precision, m, shape.n, forward, pool.threads()),
                                      gemm_workspace(precision, m, shape.k, backward, pool.threads()),
                                      reduce_tokens_workspace(m, options.rank, shape.k, pool.threads())}));
      const double work = 2.0 * static_cast<double>(m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
      const int calls = std::max(1, static_cast<int>(ceiling * 4e-3 / work));
      size_t layer = 0;
      const auto rate = [&](double operations, auto&& call) {
        const double seconds = best_seconds(options.rounds, [&](int) {
          for (int i = 0; i < calls; ++i) call(layers.views[layer++ % layers.views.size()]);
        });
        return operations * calls / seconds;
      };
      const double nt = rate(work, [&](const WeightView& w) {
        const Segment segment{{x.data(), type, shape.k}, w};
        gemm.gemm_nt(pool, precision, m, shape.n, {&segment, 1}, {y.data(), type, shape.n, nullptr, nullptr, 0},
                     workspace.data());
      });
      const double nn = rate(work, [&](const WeightView& w) {
        const Segment segment{{dy.data(), type, shape.n}, w};
        gemm.gemm_nn(pool, precision, m, shape.k, {&segment, 1}, {dx.data(), type, shape.k, nullptr, nullptr, 0},
                     workspace.data());
      });
      const double reduction_work = 2.0 * static_cast<double>(m * options.rank) * static_cast<double>(shape.k);
      const double reduction = rate(reduction_work, [&](const WeightView&) {
        gemm.reduce_tokens(pool, precision, m, {u.data(), type, options.rank}, options.rank, {x.data(), type, shape.k},
                           shape.k, 1.0f, out.data<float>(), shape.k, false, workspace.data());
      });
      char name[32];
      std::snprintf(name, sizeof(name), "%d x %d", static_cast<int>(shape.n), static_cast<int>(shape.k));
      std::printf("%18s %6d %8.0f GF/s %3.0f %% %8.0f GF/s %3.0f %% %8.0f GF/s %3.0f %%\n", name, static_cast<int>(m),
                  nt / 1e9, 100 * nt / ceiling, nn / 1e9, 100 * nn / ceiling, reduction / 1e9,
                  100 * reduction / ceiling);
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Pool pool(options.threads);
  count_cpu_time = options.threads == 1;
  for (Level level : options.levels) {
    measure(options, level, Precision::f32, pool);
    if (prefers_bf16(level)) measure(options, level, Precision::bf16, pool);
  }
}
