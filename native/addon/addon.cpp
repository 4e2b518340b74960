// The door between JavaScript and the native core.
#include <napi.h>

#include "core/version.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("version", Napi::String::New(env, lowrank::version()));
  return exports;
}

}  // namespace

NODE_API_MODULE(lowrank, init)
