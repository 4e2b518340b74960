// A cuBLASLt for machines without a GPU: computes on the host's memory, at once or in the order of a stream of the
// stand-in driver, and refuses what the library would refuse or may not be given. Environment:
// LOWRANK_STANDIN_CUBLASLT=no-create|no-kernel fails one thing. lowrank_standin_products(n) counts the products with n
// outputs a row since the last call, and with n = 0 all of them.
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace {

constexpr int kSuccess = 0, kNotInitialized = 1, kInvalidValue = 7, kNotSupported = 15;
constexpr int kF32 = 0, kBf16 = 14;
/// Bytes of workspace that the one kernel asks for, and uses.
constexpr size_t kWorkspace = 4096;

struct Desc {
  int compute, scale;
  int32_t trans_a = 0, trans_b = 0;
};
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t ld;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 7;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

bool fails(const char* what) {
  const char* const named = std::getenv("LOWRANK_STANDIN_CUBLASLT");
  return named != nullptr && std::string(named) == what;
}

/// Does the work when the stream comes to it, where LOWRANK_LIBCUDA names a driver; else at once.
int queue(void* stream, std::function<void()> work) {
  const char* const driver = std::getenv("LOWRANK_LIBCUDA");
  if (driver == nullptr || *driver == 0) {
    work();
    return kSuccess;
  }
  void* const library = dlopen(driver, RTLD_NOW);
  if (library == nullptr) return kNotInitialized;
  const auto enqueue =
      reinterpret_cast<int (*)(void*, void (*)(void*), void (*)(void*), void*)>(dlsym(library, "lowrank_standin_work"));
  if (enqueue == nullptr) return kNotInitialized;
  using Function = std::function<void()>;
  const auto run = [](void* data) { (*static_cast<Function*>(data))(); };
  const auto drop = [](void* data) { delete static_cast<Function*>(data); };
  return enqueue(stream, run, drop, new Function(std::move(work)));
}

double element(const void* data, const Layout& layout, uint64_t row, uint64_t col) {
  const uint64_t at = col * static_cast<uint64_t>(layout.ld) + row;
  if (layout.type == kF32) return static_cast<const float*>(data)[at];
  return lowrank::f32_from_bf16(static_cast<const uint16_t*>(data)[at]);
}
bool is_known(const Layout& layout) {
  return (layout.type == kF32 || layout.type == kBf16) && layout.rows > 0 && layout.cols > 0 &&
         layout.ld >= static_cast<int64_t>(layout.rows);
}
/// Addresses and leading dimensions as the algorithm was told.
bool is_aligned(const void* data, const Layout& layout, uint64_t alignment) {
  const uint64_t ld_bytes = static_cast<uint64_t>(layout.ld) * (layout.type == kF32 ? 4 : 2);
  return (reinterpret_cast<uint64_t>(data) | ld_bytes) % alignment == 0;
}

std::vector<uint64_t> served;  // outputs a row of each product

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int64_t lowrank_standin_products(uint64_t outputs) {
  const auto count =
      std::count_if(served.begin(), served.end(), [&](uint64_t n) { return outputs == 0 || n == outputs; });
  served.clear();
  return count;
}

EXPORT size_t cublasLtGetVersion() { return 130200; }
EXPORT int cublasLtCreate(void** handle) {
  if (fails("no-create")) return kNotInitialized;
  *handle = new int(0);
  return kSuccess;
}
EXPORT int cublasLtDestroy(void* handle) {
  delete static_cast<int*>(handle);
  return kSuccess;
}

EXPORT int cublasLtMatmulDescCreate(void** desc, int compute, int scale) {
  *desc = new Desc{compute, scale};
  return kSuccess;
}
EXPORT int cublasLtMatmulDescDestroy(void* desc) {
  delete static_cast<Desc*>(desc);
  return kSuccess;
}
EXPORT int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  if (bytes != 4 || (attribute != 3 && attribute != 4)) return kInvalidValue;
  auto* const to = static_cast<Desc*>(desc);
  std::memcpy(attribute == 3 ? &to->trans_a : &to->trans_b, value, bytes);
  return kSuccess;
}

EXPORT int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new Layout{type, rows, cols, ld};
  return kSuccess;
}
EXPORT int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return kSuccess;
}

EXPORT int cublasLtMatmulPreferenceCreate(void** preference) {
  *preference = new Preference;
  return kSuccess;
}
EXPORT int cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<Preference*>(preference);
  return kSuccess;
}
EXPORT int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  auto* const to = static_cast<Preference*>(preference);
  if (attribute == 1 && bytes == 8) {
    std::memcpy(&to->workspace, value, bytes);
  } else if (attribute == 3 && bytes == 4) {
    std::memcpy(&to->reductions, value, bytes);
  } else if (attribute >= 5 && attribute <= 8 && bytes == 4) {
    std::memcpy(&to->alignment[attribute - 5], value, bytes);
  } else {
    return kInvalidValue;
  }
  return kSuccess;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(void*, void* desc, void* a, void* b, void* c, void* d, void* preference,
                                          int wanted, Heuristic* results, int* found) {
  *found = 0;
  if (wanted < 1) return kInvalidValue;
  if (fails("no-kernel")) return kNotSupported;
  const auto& prefer = *static_cast<Preference*>(preference);
  for (void* const layout : {a, b, c, d})
    if (!is_known(*static_cast<Layout*>(layout))) return kInvalidValue;
  if (static_cast<Desc*>(desc)->compute != 68 || prefer.workspace < kWorkspace) return kNotSupported;
  if ((prefer.reductions & 1) != 0) return kNotSupported;  // sums in place depend on the schedule
  *found = 1;
  std::memset(results, 0, sizeof *results);
  for (int i = 0; i < 4; ++i) results->algorithm.data[i] = prefer.alignment[i];
  results->workspace = kWorkspace;
  return kSuccess;
}

EXPORT int cublasLtMatmul(void*, void* desc, const void* alpha, const void* a, void* a_layout, const void* b,
                          void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                          const Algorithm* algorithm, void* workspace, size_t bytes, void* stream) {
  const auto& how = *static_cast<Desc*>(desc);
  const auto &of_a = *static_cast<Layout*>(a_layout), &of_b = *static_cast<Layout*>(b_layout);
  const auto &of_c = *static_cast<Layout*>(c_layout), &of_d = *static_cast<Layout*>(d_layout);
  const uint64_t m = of_d.rows, n = of_d.cols, k = how.trans_a != 0 ? of_a.rows : of_a.cols;
  if ((how.trans_a != 0 ? of_a.cols : of_a.rows) != m || (how.trans_b != 0 ? of_b.rows : of_b.cols) != n ||
      (how.trans_b != 0 ? of_b.cols : of_b.rows) != k || of_c.rows != m || of_c.cols != n || of_a.type != of_b.type ||
      of_c.type != of_d.type)
    return kInvalidValue;
  const Layout* const layouts[] = {&of_a, &of_b, &of_c, &of_d};
  const void* const data[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!is_aligned(data[i], *layouts[i], algorithm->data[i])) return kInvalidValue;
  if (workspace == nullptr || bytes < kWorkspace) return kInvalidValue;
  served.push_back(m);  // columns are rows here
  const float by = *static_cast<const float*>(alpha), old = *static_cast<const float*>(beta);
  // Copies: the caller may let go of what describes the product.
  return queue(stream, [=, how = how, of_a = of_a, of_b = of_b, of_c = of_c, of_d = of_d] {
    std::memset(workspace, 0xff, kWorkspace);
    std::vector<double> row(k);
    for (uint64_t i = 0; i < m; ++i) {
      for (uint64_t s = 0; s < k; ++s) row[s] = how.trans_a != 0 ? element(a, of_a, s, i) : element(a, of_a, i, s);
      for (uint64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (uint64_t s = 0; s < k; ++s)
          sum += row[s] * (how.trans_b != 0 ? element(b, of_b, j, s) : element(b, of_b, s, j));
        sum *= by;
        if (old != 0) sum += old * element(c, of_c, i, j);
        const uint64_t at = j * static_cast<uint64_t>(of_d.ld) + i;
        if (of_d.type == kF32) {
          static_cast<float*>(d)[at] = static_cast<float>(sum);
        } else {
          static_cast<uint16_t*>(d)[at] = lowrank::bf16_from_f32(static_cast<float>(sum));
        }
      }
    }
  });
}
