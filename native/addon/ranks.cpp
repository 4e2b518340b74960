#include "addon/ranks.h"

#include <string>
#include <utility>
#include <vector>

#include "addon/fields.h"
#include "addon/handle.h"
#include "comm/alone.h"
#include "comm/meet.h"
#include "comm/mpi.h"
#include "os/cores.h"

namespace lowrank::addon {
namespace {

using Message = std::vector<uint8_t>;

Napi::Value undefined(Napi::Env env, bool&) { return env.Undefined(); }

Napi::Value mpi_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const MpiSearch search = find_mpi();
    Napi::Object object = Napi::Object::New(env);
    Napi::Array libraries = Napi::Array::New(env), reasons = Napi::Array::New(env);
    for (const auto& [name, version] : search.found) {
      Napi::Object library = Napi::Object::New(env);
      library.Set("name", name);
      library.Set("version", version);
      libraries.Set(libraries.Length(), library);
    }
    for (const std::string& reason : search.reasons) reasons.Set(reasons.Length(), reason);
    object.Set("libraries", libraries);
    object.Set("reasons", reasons);
    return object;
  });
}

Napi::Value join_ranks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Fields fields(info[0], "launch");
    const auto launcher = static_cast<Launcher>(fields.choice("launcher", kLauncherNames));
    const int size = fields.index("size");
    const std::string library = fields.text("library");
    const std::chrono::milliseconds patience(fields.integer("patience"));
    return environment(env).channel->start<bool>(
        env,
        [launcher, size, library, patience](Context&, const CancelFlag&) {
          Engine::instance().set_comm(join_mpi(launcher, size, library, patience));
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value {
          const Comm& comm = Engine::instance().comm();
          Napi::Object object = Napi::Object::New(e);
          object.Set("rank", comm.rank());
          object.Set("size", comm.size());
          object.Set("library", comm.library());
          return object;
        });
  });
}

Napi::Value meet_ranks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      throw Napi::TypeError::New(env, "lowrank: a message must be a Uint8Array");
    const Napi::Uint8Array given = info[0].As<Napi::Uint8Array>();
    const Message own(given.Data(), given.Data() + given.ElementLength());
    return environment(env).channel->start<std::vector<Message>>(
        env, [own](Context&, const CancelFlag&) { return meet(Engine::instance().comm(), own); },
        [](Napi::Env e, std::vector<Message>& said) -> Napi::Value {
          Napi::Array array = Napi::Array::New(e, said.size());
          for (uint32_t i = 0; i < array.Length(); ++i) array.Set(i, bytes(e, said[i].data(), said[i].size()));
          return array;
        });
  });
}

Napi::Value leave_ranks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    return environment(env).channel->start<bool>(
        env,
        [](Context&, const CancelFlag&) {
          Engine& engine = Engine::instance();
          engine.sums().settle();
          engine.comm().leave();
          engine.set_comm(std::make_unique<Alone>());
          return true;
        },
        undefined);
  });
}

Napi::Value end_ranks(const Napi::CallbackInfo& info) {
  Engine::instance().comm().end_all(info[0].ToNumber().Int32Value());
  return info.Env().Undefined();
}

Napi::Value lost_rank(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Engine::instance().comm().lost());
}

Napi::Value allowed_cores(const Napi::CallbackInfo& info) {
  const std::vector<int> cores = os::allowed_cores();
  Napi::Array array = Napi::Array::New(info.Env(), cores.size());
  for (uint32_t i = 0; i < array.Length(); ++i) array.Set(i, cores[i]);
  return array;
}

}  // namespace

void define_ranks(Napi::Env env, Napi::Object exports) {
  const auto method = [&](const char* name, Napi::Value (*call)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, call, name));
  };
  method("mpi", mpi_info);
  method("joinRanks", join_ranks);
  method("meetRanks", meet_ranks);
  method("leaveRanks", leave_ranks);
  method("endRanks", end_ranks);
  method("lostRank", lost_rank);
  method("allowedCores", allowed_cores);
}

}  // namespace lowrank::addon
