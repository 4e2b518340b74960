#include "backends/cuda/cublaslt.h"

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "core/error.h"
#include "os/library.h"
#include "os/python_libraries.h"

namespace lowrank::cuda {
namespace {

constexpr int kSuccess = 0;
constexpr int kTypeF32 = 0, kTypeBf16 = 14;
constexpr int kComputeF32 = 68;
constexpr int kDescTransA = 3, kDescTransB = 4;
constexpr int32_t kPlain = 0, kTransposed = 1;
constexpr int kPreferWorkspace = 1, kPreferReductions = 3, kPreferAlignment = 5;  // of A; B, C and D follow
/// Parts of sums are added by a kernel of their own, in their order; never in place, in the order in which they come.
constexpr uint32_t kReductionsInOrder = 2 | 4;
constexpr uint32_t kAligned = 16;

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
static_assert(sizeof(Heuristic) == 96);

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

#if defined(_WIN32)
const char* const kNames[] = {"cublasLt64_13.dll", "cublasLt64_12.dll"};
const char* const kToolkitFolders[] = {"bin/x64", "bin"};
const char* const kWheelFolders[] = {"nvidia/cu13/bin/x86_64", "nvidia/cublas/bin"};
#elif !defined(__APPLE__)
const char* const kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
const char* const kToolkitFolders[] = {"lib64", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"};
const char* const kWheelFolders[] = {"nvidia/cu13/lib", "nvidia/cublas/lib"};
#endif

}  // namespace

// clang-format off
#define LOWRANK_CUBLASLT_CALLS(X)                                                                                     \
  X(cublasLtGetVersion, size_t, ())                                                                                   \
  X(cublasLtCreate, int, (void** handle))                                                                             \
  X(cublasLtDestroy, int, (void* handle))                                                                             \
  X(cublasLtMatmulDescCreate, int, (void** desc, int compute, int scale))                                             \
  X(cublasLtMatmulDescDestroy, int, (void* desc))                                                                     \
  X(cublasLtMatmulDescSetAttribute, int, (void* desc, int attribute, const void* value, size_t bytes))                \
  X(cublasLtMatrixLayoutCreate, int, (void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld))             \
  X(cublasLtMatrixLayoutDestroy, int, (void* layout))                                                                 \
  X(cublasLtMatmulPreferenceCreate, int, (void** preference))                                                         \
  X(cublasLtMatmulPreferenceDestroy, int, (void* preference))                                                         \
  X(cublasLtMatmulPreferenceSetAttribute, int, (void* preference, int attribute, const void* value, size_t bytes))    \
  X(cublasLtMatmulAlgoGetHeuristic, int, (void* handle, void* desc, void* a, void* b, void* c, void* d,               \
                                          void* preference, int wanted, Heuristic* results, int* found))              \
  X(cublasLtMatmul, int, (void* handle, void* desc, const void* alpha, const void* a, void* a_layout, const void* b,  \
                          void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,   \
                          const Algorithm* algorithm, void* workspace, size_t bytes, void* stream))
// clang-format on

struct CublasLtCalls {
#define LOWRANK_CUBLASLT_MEMBER(call, Result, parameters) Result(*call) parameters = nullptr;
  LOWRANK_CUBLASLT_CALLS(LOWRANK_CUBLASLT_MEMBER)
#undef LOWRANK_CUBLASLT_MEMBER
};

/// Description of a product for the library, without its addresses. The library is column-major: its first factor is w,
/// and its output is y transposed.
struct CublasLt::Plan {
  explicit Plan(const CublasLtCalls& library) : calls(library) {}
  ~Plan() {
    for (void* const layout : {a, b, c, d})
      if (layout != nullptr) calls.cublasLtMatrixLayoutDestroy(layout);
    if (desc != nullptr) calls.cublasLtMatmulDescDestroy(desc);
  }
  const CublasLtCalls& calls;
  void *desc = nullptr, *a = nullptr, *b = nullptr, *c = nullptr, *d = nullptr;
  Algorithm algorithm{};
  int64_t workspace = 0;
};

std::vector<std::string> cublaslt_candidates() {
  std::vector<std::string> all;
  if (const char* const named = std::getenv("LOWRANK_CUBLASLT"); named != nullptr && *named != 0) {
    if (named != std::string_view("off")) all.emplace_back(named);
    return all;
  }
  // Another driver than the system's has no use for the system's library.
  if (!environment("LOWRANK_LIBCUDA").empty()) return all;
#if !defined(__APPLE__)
  namespace fs = std::filesystem;
  std::error_code ignored;
  const auto add = [&](const fs::path& folder) {
    for (const char* name : kNames)
      if (fs::exists(folder / name, ignored)) all.push_back((folder / name).string());
  };
  for (const char* name : kNames) all.emplace_back(name);
  std::vector<fs::path> toolkits = {environment("CUDA_HOME"), environment("CUDA_PATH")};
#if !defined(_WIN32)
  toolkits.emplace_back("/usr/local/cuda");
#endif
  for (const fs::path& toolkit : toolkits)
    if (!toolkit.empty())
      for (const char* folder : kToolkitFolders) add(toolkit / folder);
  for (std::string& path : os::python_libraries(kNames, kWheelFolders)) all.push_back(std::move(path));
#endif
  return all;
}

std::unique_ptr<CublasLt> CublasLt::open(int sm, std::string& reason) {
  const std::vector<std::string> candidates = cublaslt_candidates();
  reason = candidates.empty() ? "no cuBLASLt is asked for" : "";
  for (const std::string& path : candidates) {
    const os::Library library(path);
    if (!library) {
      reason += (reason.empty() ? "" : "; ") + library.reason();
      continue;
    }
    auto calls = std::make_unique<CublasLtCalls>();
    const char* missing = nullptr;
#define LOWRANK_CUBLASLT_FIND(call, Result, parameters)                       \
  calls->call = reinterpret_cast<decltype(calls->call)>(library.find(#call)); \
  if (calls->call == nullptr && missing == nullptr) missing = #call;
    LOWRANK_CUBLASLT_CALLS(LOWRANK_CUBLASLT_FIND)
#undef LOWRANK_CUBLASLT_FIND
    std::string refusal;
    void* handle = nullptr;
    if (missing != nullptr) {
      refusal = std::string("it has no ") + missing;
    } else if (const int status = calls->cublasLtCreate(&handle); status != kSuccess) {
      refusal = "cublasLtCreate failed with status " + std::to_string(status) + ", as with a driver that is too old";
    } else {
      return std::unique_ptr<CublasLt>(new CublasLt(std::move(calls), handle, path, sm));
    }
    if (!reason.empty()) reason += "; ";
    reason.append(path).append(": ").append(refusal);
  }
  return nullptr;
}

CublasLt::CublasLt(std::unique_ptr<const CublasLtCalls> calls, void* handle, std::string path, int sm)
    : calls_(std::move(calls)), handle_(handle), path_(std::move(path)), sm_(sm) {}
CublasLt::~CublasLt() {
  plans_.clear();
  calls_->cublasLtDestroy(handle_);
}

int64_t CublasLt::version() const { return static_cast<int64_t>(calls_->cublasLtGetVersion()); }

std::unique_ptr<CublasLt::Plan> CublasLt::plan_of(const LibraryProduct& p) const {
  const CublasLtCalls& c = *calls_;
  auto plan = std::make_unique<Plan>(c);
  const auto type_of = [](const Matrix& m) { return m.dtype == DType::bf16 ? kTypeBf16 : kTypeF32; };
  const auto layout = [&](void*& to, const Matrix& m, int64_t rows, int64_t cols) {
    // Rows of ours are columns of the library's.
    return c.cublasLtMatrixLayoutCreate(&to, type_of(m), static_cast<uint64_t>(cols), static_cast<uint64_t>(rows),
                                        m.ld);
  };
  const bool w_by_rows = p.layout != GemmLayout::nt, x_by_rows = p.layout == GemmLayout::tn;
  const int32_t of_w = w_by_rows ? kPlain : kTransposed, of_x = x_by_rows ? kTransposed : kPlain;
  void* preference = nullptr;
  const auto bytes = static_cast<uint64_t>(library_workspace(sm_));
  Heuristic result{};
  int found = 0;
  bool made = c.cublasLtMatmulDescCreate(&plan->desc, kComputeF32, kTypeF32) == kSuccess &&
              c.cublasLtMatmulDescSetAttribute(plan->desc, kDescTransA, &of_w, sizeof of_w) == kSuccess &&
              c.cublasLtMatmulDescSetAttribute(plan->desc, kDescTransB, &of_x, sizeof of_x) == kSuccess &&
              layout(plan->a, p.w, w_by_rows ? p.k : p.n, w_by_rows ? p.n : p.k) == kSuccess &&
              layout(plan->b, p.x, x_by_rows ? p.k : p.m, x_by_rows ? p.m : p.k) == kSuccess &&
              layout(plan->c, p.addend.data ? p.addend : p.y, p.m, p.n) == kSuccess &&
              layout(plan->d, p.y, p.m, p.n) == kSuccess && c.cublasLtMatmulPreferenceCreate(&preference) == kSuccess;
  const auto prefer = [&](int attribute, const auto& value) {
    made = made && c.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == kSuccess;
  };
  prefer(kPreferWorkspace, bytes);
  prefer(kPreferReductions, kReductionsInOrder);
  for (int operand = 0; operand < 4; ++operand) prefer(kPreferAlignment + operand, kAligned);
  made = made && c.cublasLtMatmulAlgoGetHeuristic(handle_, plan->desc, plan->a, plan->b, plan->c, plan->d, preference,
                                                  1, &result, &found) == kSuccess;
  if (preference != nullptr) c.cublasLtMatmulPreferenceDestroy(preference);
  if (!made || found == 0 || result.status != kSuccess || result.workspace > bytes) return nullptr;
  plan->algorithm = result.algorithm;
  plan->workspace = static_cast<int64_t>(result.workspace);
  return plan;
}

bool CublasLt::multiply(const LibraryProduct& p, Ptr<std::byte> workspace, void* stream) {
  const Key key = {static_cast<int64_t>(p.layout),
                   p.m,
                   p.n,
                   p.k,
                   p.x.ld,
                   p.w.ld,
                   p.y.ld,
                   static_cast<int64_t>(p.x.dtype),
                   static_cast<int64_t>(p.y.dtype),
                   p.addend.data ? p.addend.ld : 0};
  const auto [at, is_new] = plans_.try_emplace(key);
  if (is_new) at->second = plan_of(p);
  const Plan* const plan = at->second.get();
  if (plan == nullptr) return false;
  const auto pointer = [](const Matrix& m) { return reinterpret_cast<void*>(m.data.address()); };
  const float beta = p.addend.data ? 1.0f : 0.0f;
  const int status = calls_->cublasLtMatmul(handle_, plan->desc, &p.scale, pointer(p.w), plan->a, pointer(p.x), plan->b,
                                            &beta, pointer(p.addend.data ? p.addend : p.y), plan->c, pointer(p.y),
                                            plan->d, &plan->algorithm, reinterpret_cast<void*>(workspace.address()),
                                            static_cast<size_t>(plan->workspace), stream);
  if (status != kSuccess) fail("DEVICE", "cuBLASLt (", path_, ") could not multiply: status ", status);
  return true;
}

}  // namespace lowrank::cuda
