#include "addon/handle.h"

#include <algorithm>

namespace lowrank::addon {

Environment& environment(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

Napi::Uint8Array bytes(Napi::Env env, const void* data, size_t count) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, count);
  std::copy_n(static_cast<const uint8_t*>(data), count, array.Data());
  return array;
}

Napi::Number number(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

}  // namespace lowrank::addon
