// Promises for work on the engine thread. JavaScript gets `{promise, cancel}`; the engine thread never touches the
// JavaScript engine, but passes finished jobs to the environment's thread-safe function.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "core/error.h"
#include "runtime/engine.h"

namespace lowrank::addon {

/// Channel from the engine thread to one JavaScript environment (the main thread or a worker).
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  static std::shared_ptr<Channel> open(Napi::Env env);

  /// Queues `work` on the engine thread; then `settle`, on JavaScript's thread, creates the value that the promise
  /// resolves with. An Error rejects with its code and message. `held` lives until the promise settles.
  /// @param memory of the device it runs on; null for the CPU's
  template <class Result>
  Napi::Object start(Napi::Env env, std::function<Result(Context&, const CancelFlag&)> work,
                     std::function<Napi::Value(Napi::Env, Result&)> settle, std::shared_ptr<void> held = nullptr,
                     const Memory* memory = nullptr);

  /// Destroys an unused payload on the engine thread, after the queued jobs, since freeing memory takes a while.
  /// Resolves when done.
  Napi::Promise release(Napi::Env env, std::shared_ptr<void> payload);

  /// Closes this environment's channel: cancels its jobs, waits for them without settling, and accepts no more. Jobs of
  /// other environments continue.
  void close();

 private:
  using Finish = std::function<void(Napi::Env)>;
  Napi::Object submit(Napi::Env env, std::function<void(Context&, const CancelFlag&)> work,
                      std::function<Napi::Value(Napi::Env)> value, std::shared_ptr<void> held, const Memory* memory,
                      Napi::Promise::Deferred deferred);
  void finished(Finish finish, const CancelFlag& cancel);
  void drain(Napi::Env env);

  std::mutex mutex_;
  std::condition_variable ended_;
  napi_threadsafe_function function_ = nullptr;
  bool closed_ = false;
  std::vector<Finish> finished_;
  std::set<CancelFlag> running_;
  int64_t pending_ = 0;  // JavaScript's thread only; a positive count keeps the event loop alive
};

// `held` is moved. NOLINTBEGIN(performance-unnecessary-value-param)
template <class Result>
Napi::Object Channel::start(Napi::Env env, std::function<Result(Context&, const CancelFlag&)> work,
                            std::function<Napi::Value(Napi::Env, Result&)> settle, std::shared_ptr<void> held,
                            const Memory* memory) {  // NOLINTEND(performance-unnecessary-value-param)
  auto result = std::make_shared<Result>();
  return submit(
      env,
      [result, work = std::move(work)](Context& context, const CancelFlag& cancel) { *result = work(context, cancel); },
      [result, settle = std::move(settle)](Napi::Env e) { return settle(e, *result); }, std::move(held), memory,
      Napi::Promise::Deferred::New(env));
}

/// Creates a JavaScript error with `code` from a native error.
Napi::Error to_js(Napi::Env env, const char* code, const std::string& message);

/// Runs `body` and turns Error into a JavaScript error with its code.
template <class Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw to_js(env, error.code(), error.what());
  }
}

}  // namespace lowrank::addon
