#include "addon/jobs.h"

namespace lowrank::addon {

Napi::Error to_js(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

std::shared_ptr<Channel> Channel::open(Napi::Env env) {
  auto channel = std::make_shared<Channel>();
  // The callback holds the channel weakly through a heap cell that Node frees with the function.
  auto* cell = new std::weak_ptr<Channel>(channel);
  const napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, Napi::String::New(env, "lowrank"), 0, 1, cell,
      [](napi_env, void* data, void*) { delete static_cast<std::weak_ptr<Channel>*>(data); }, cell,
      [](napi_env call_env, napi_value, void* context, void*) {
        if (call_env == nullptr) return;  // the environment is going away
        if (const auto alive = static_cast<std::weak_ptr<Channel>*>(context)->lock()) alive->drain(call_env);
      },
      &channel->function_);
  if (status != napi_ok) throw Napi::Error::New(env, "lowrank: could not create a thread-safe function");
  napi_unref_threadsafe_function(env, channel->function_);
  Engine::instance().attach();
  return channel;
}

Napi::Object Channel::submit(Napi::Env env, std::function<void(Context&, const CancelFlag&)> work,
                             std::function<Napi::Value(Napi::Env)> value, std::shared_ptr<void> held,
                             const Memory* memory, Napi::Promise::Deferred deferred) {
  const CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);
  guarded(env, [&] {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) fail("ABORTED", "the environment is shutting down and accepts no more work");
      running_.insert(cancel);
    }
    auto job = [channel = shared_from_this(), cancel, work = std::move(work), value = std::move(value),
                held = std::move(held), deferred](Context& context) mutable {
      Finish finish;
      try {
        if (cancel->load()) fail("ABORTED", "the job was canceled before it started");
        work(context, cancel);
        finish = [deferred, value = std::move(value)](Napi::Env e) {
          try {
            deferred.Resolve(value(e));
          } catch (const Napi::Error& error) {
            deferred.Reject(error.Value());
          }
        };
      } catch (const Error& error) {
        finish = [deferred, code = std::string(error.code()), message = std::string(error.what())](Napi::Env e) {
          deferred.Reject(to_js(e, code.c_str(), message).Value());
        };
      } catch (const std::exception& error) {
        finish = [deferred, message = std::string(error.what())](Napi::Env e) {
          deferred.Reject(to_js(e, "INTERNAL", message).Value());
        };
      }
      // When the promise settles, the job has already released what it held.
      work = nullptr;
      value = nullptr;
      channel->finished([finish = std::move(finish), held = std::move(held)](Napi::Env e) { finish(e); }, cancel);
    };
    try {
      Engine::instance().post(std::move(job), memory);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      running_.erase(cancel);
      throw;
    }
  });
  if (pending_++ == 0) napi_ref_threadsafe_function(env, function_);
  Napi::Object job = Napi::Object::New(env);
  job.Set("promise", deferred.Promise());
  job.Set("cancel", Napi::Function::New(env, [cancel](const Napi::CallbackInfo&) { cancel->store(true); }));
  return job;
}

Napi::Promise Channel::release(Napi::Env env, std::shared_ptr<void> payload) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  try {
    submit(
        env, [payload = std::move(payload)](Context&, const CancelFlag&) {}, [](Napi::Env e) { return e.Undefined(); },
        nullptr, nullptr, deferred);
  } catch (const Napi::Error&) {
    deferred.Resolve(env.Undefined());  // the engine has ended, so it was released here
  }
  return deferred.Promise();
}

void Channel::finished(Finish finish, const CancelFlag& cancel) {
  const std::lock_guard lock(mutex_);
  running_.erase(cancel);
  if (running_.empty()) ended_.notify_all();
  if (closed_) return;
  finished_.push_back(std::move(finish));
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void Channel::drain(Napi::Env env) {
  std::vector<Finish> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(finished_);
  }
  const Napi::HandleScope scope(env);
  for (Finish& finish : batch) {
    try {
      finish(env);
    } catch (const Napi::Error&) {
      // The environment is ending, as that of a worker that is terminated, and settles no promise any more.
    }
    finish = nullptr;  // releases what the job held before JavaScript goes on
    if (--pending_ == 0) napi_unref_threadsafe_function(env, function_);
  }
}

void Channel::close() {
  {
    std::unique_lock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    for (const CancelFlag& cancel : running_) cancel->store(true);
    ended_.wait(lock, [&] { return running_.empty(); });
    finished_.clear();
  }
  Engine::instance().detach();
}

}  // namespace lowrank::addon
