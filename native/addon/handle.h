// Base class of the wrapped objects, each in its own file: model, adapter, session, weight_file.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/jobs.h"
#include "runtime/session.h"

namespace lowrank::addon {

/// State of one JavaScript environment. There are no globals, so worker threads can load the addon, too.
struct Environment {
  std::shared_ptr<Channel> channel;
  Napi::FunctionReference model, adapter, session, weight_file;
};

Environment& environment(Napi::Env env);

Napi::Uint8Array bytes(Napi::Env env, const void* data, size_t count);
Napi::Number number(Napi::Env env, int64_t value);

// The classes, and access to the payloads of their handles. Throw TypeError for anything but such a handle, and
// Error("DISPOSED") for a disposed one.
Napi::Function define_model(Napi::Env env);
Napi::Function define_adapter(Napi::Env env);
Napi::Function define_session(Napi::Env env);
Napi::Function define_weight_file(Napi::Env env);
std::shared_ptr<Model> model_of(Napi::Value handle);
std::shared_ptr<Adapter> adapter_of(Napi::Value handle);
std::shared_ptr<Session> session_of(Napi::Value handle);
/// The functions of grammars.
void define_grammars(Napi::Env env, Napi::Object exports);
/// Plans and allocates a session, on the engine's thread.
Napi::Value open_session(const Napi::CallbackInfo& info);

/// Base of ObjectWrap classes: a payload that dispose() releases, and a type tag that prevents mixing up handles.
template <class Self, class Payload>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  using Base = Handle;
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    info.This().template As<Napi::Object>().TypeTag(&Self::kTag);
  }

  static Self& unwrap(Napi::Value value) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&Self::kTag))
      throw Napi::TypeError::New(value.Env(), std::string("lowrank: expected ") + Self::kName);
    return *Napi::ObjectWrap<Self>::Unwrap(value.As<Napi::Object>());
  }

  /// Called when an undisposed handle is garbage-collected.
  void Finalize(Napi::BasicEnv env) override {
    if (bytes_ != 0) Napi::MemoryManagement::AdjustExternalMemory(env, -bytes_);
  }

  /// Returns an owning reference, since JavaScript that runs meanwhile, such as a getter, may dispose the handle.
  std::shared_ptr<Payload> payload(Napi::Env env) const {
    if (!payload_) throw to_js(env, "DISPOSED", std::string(Self::kName) + " was disposed");
    return payload_;
  }

 protected:
  void hold(std::shared_ptr<Payload> payload) { payload_ = std::move(payload); }
  /// Reports bytes to the garbage collector, which otherwise sees only the small handle. Use it only for what programs
  /// may forget: V8 runs an extra collection per 64 MiB, which blocks JavaScript.
  void grow(Napi::Env env, int64_t bytes) {
    bytes_ += bytes;
    Napi::MemoryManagement::AdjustExternalMemory(env, bytes);
  }
  /// `dispose` as a member of Self, as DefineClass requires.
  static Napi::ClassPropertyDescriptor<Self> dispose_method() {
    using Method = Napi::Value (Self::*)(const Napi::CallbackInfo&);
    return Napi::InstanceWrap<Self>::InstanceMethod("dispose", static_cast<Method>(&Handle::dispose));
  }

 private:
  /// Pending jobs hold their own references.
  Napi::Value dispose(const Napi::CallbackInfo& info) {
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -bytes_);
    bytes_ = 0;
    return environment(info.Env()).channel->release(info.Env(), std::exchange(payload_, nullptr));
  }

  std::shared_ptr<Payload> payload_;
  int64_t bytes_ = 0;
};

/// A job over the weights of a model, whose result is valid only if their files stayed intact throughout.
template <class Work>
auto over(std::shared_ptr<const Model> model, Work work) {
  return [model = std::move(model), work = std::move(work)](Context& context, const CancelFlag& cancel) {
    const auto attempt = [&] {
      try {
        return work(context, cancel);
      } catch (...) {
        model->expect_whole();  // if not whole, that is the cause
        throw;
      }
    };
    auto result = attempt();
    model->expect_whole();
    return result;
  };
}

}  // namespace lowrank::addon
