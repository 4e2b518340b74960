// From the plain objects of lib/ to the structures of the native side. Every field is checked for its type; a wrong one
// is an error naming the key, since a mistake here would otherwise surface as a crash.
#pragma once

#include <napi.h>

#include "adapters/adapter.h"
#include "optim/ranks.h"
#include "runtime/kernel_study.h"
#include "runtime/session.h"

namespace lowrank::addon {

/// Reads typed fields of one object; `where` names it in errors.
class Fields {
 public:
  Fields(Napi::Value value, std::string where);

  Napi::Env env() const { return object_.Env(); }
  bool has(const char* key) const;
  /// Those that have a value.
  std::vector<std::string> keys() const;
  Napi::Value get(const char* key) const;
  int64_t integer(const char* key) const;
  int64_t integer(const char* key, int64_t fallback) const { return has(key) ? integer(key) : fallback; }
  int index(const char* key) const;  // within 32 bits, negative too
  double number(const char* key) const;
  double number(const char* key, double fallback) const { return has(key) ? number(key) : fallback; }
  bool flag(const char* key, bool fallback) const;
  std::string text(const char* key) const;
  std::vector<Napi::Value> list(const char* key) const;
  /// An Int32Array, copied.
  std::vector<int32_t> ids(const char* key) const;
  /// The index of a string in `names`; an error lists them.
  template <size_t N>
  int choice(const char* key, const char* const (&names)[N]) const {
    return choose(key, names, N);
  }
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;

 private:
  int choose(const char* key, const char* const* names, size_t count) const;
  Napi::Object object_;
  std::string where_;
};

Graph to_graph(Napi::Value value);
AdapterSpec to_adapter_spec(Napi::Value value);
/// The kinds of optimizers by name.
OptimizerKind to_optimizer_kind(const Fields& fields);
/// `state` of the fields; that of AdamW where there is none.
StateSpec to_state_spec(const Fields& fields);
OptimizerStep to_optimizer_step(Napi::Value value);
StorageFormat to_storage_format(Napi::Value value);
TensorSource to_tensor_source(Napi::Value value);
/// Plans by name; `threads` sizes the workspaces.
std::map<std::string, PlanOptions> to_plans(Napi::Value value);
MicroBatch to_micro_batch(const Fields& fields);
/// `active` and `lastOnly`, each of which may be absent.
TrainedRanks to_trained_ranks(const Fields& fields);
TrainInput to_train_input(Napi::Value value);
ForwardInput to_forward_input(const Fields& fields);
std::optional<Sampling> to_sampling(const Fields& fields);
Precision to_precision(const Fields& fields);
KernelStudy to_kernel_study(Napi::Value value);
Napi::Value from_kernel_times(Napi::Env env, const KernelTimes& times);
/// Its timeline is made when it is asked for.
Napi::Value from_report(Napi::Env env, PlanReport report);

}  // namespace lowrank::addon
