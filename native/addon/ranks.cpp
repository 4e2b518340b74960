#include "addon/ranks.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/fields.h"
#include "addon/handle.h"
#include "addon/values.h"
#include "comm/alone.h"
#include "comm/meet.h"
#include "comm/mpi.h"
#include "os/cores.h"

namespace lowrank::addon {
namespace {

using Message = std::vector<uint8_t>;

Napi::Value undefined(Napi::Env env, bool&) { return env.Undefined(); }

Message to_message(const Napi::Value& given) { return Given(given, "message").as<Message>(); }

/// A meeting on a thread of Node.js, which does not wait for the jobs of the engine.
class MeetingAside final : public Napi::AsyncWorker {
 public:
  MeetingAside(Napi::Env env, std::unique_ptr<Collective> ranks, Message own)
      : AsyncWorker(env), deferred_(env), ranks_(std::move(ranks)), own_(std::move(own)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override {
    try {
      said_ = meet(*ranks_, own_);
    } catch (const Error& error) {
      code_ = error.code();
      SetError(error.what());
    }
  }
  void OnOK() override { deferred_.Resolve(to_value(Env(), said_)); }
  void OnError(const Napi::Error& error) override {
    deferred_.Reject(to_js(Env(), code_.c_str(), error.Message()).Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::unique_ptr<Collective> ranks_;
  Message own_;
  std::vector<Message> said_;
  std::string code_ = "INTERNAL";
};

Napi::Value mpi_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return to_value(info.Env(), find_mpi()); });
}

Napi::Value join_ranks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Fields fields(info[0], "launch");
    const auto launcher = fields.get<MpiLauncher>("launcher");
    const int size = fields.get<int>("size");
    const std::string library = fields.get<std::string>("library");
    const std::chrono::milliseconds patience(fields.get<int64_t>("patience"));
    return environment(env).channel->start<bool>(
        env,
        [launcher, size, library, patience](Context&, const CancelFlag&) {
          Engine::instance().set_comm(join_mpi(launcher, size, library, patience));
          return true;
        },
        [](Napi::Env e, bool&) -> Napi::Value {
          const Comm& comm = Engine::instance().comm();
          return to_value(e, JoinedRanks{comm.rank(), comm.size(), comm.library()});
        });
  });
}

Napi::Value meet_ranks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    return environment(env).channel->start<std::vector<Message>>(
        env, [own = to_message(info[0])](Context&, const CancelFlag&) { return meet(Engine::instance().comm(), own); },
        to_value<std::vector<Message>>);
  });
}

Napi::Value meet_ranks_aside(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Comm& comm = Engine::instance().comm();
    std::unique_ptr<Collective> ranks = comm.beside();
    if (!ranks)
      fail("RANKS", comm.library(),
           " takes calls of one thread alone, and ranks that work on their own need two "
           "(MPI_THREAD_SERIALIZED)");
    auto* const meeting = new MeetingAside(env, std::move(ranks), to_message(info[0]));  // deletes itself
    const Napi::Promise promise = meeting->promise();
    meeting->Queue();
    return promise;
  });
}

/// A job of this process among the ranks that gives nothing back.
Napi::Value rank_job(Napi::Env env, std::function<void(Engine&)> work) {
  return environment(env).channel->start<bool>(
      env,
      [work = std::move(work)](Context&, const CancelFlag&) {
        work(Engine::instance());
        return true;
      },
      undefined);
}

/// MPI counts the bytes of a message in 32 bits.
template <class Visit>
void each_piece(size_t length, const Visit& visit) {
  constexpr size_t kPiece = size_t{1} << 30;
  for (size_t begin = 0; begin < length; begin += kPiece)
    visit(begin, static_cast<int64_t>(std::min(kPiece, length - begin)));
}

Napi::Value send_to_rank(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const int to = info[0].ToNumber().Int32Value();
    const Message message = to_message(info[1]);
    return rank_job(env, [to, message](Engine& engine) {
      Comm& comm = engine.comm();
      each_piece(message.size(), [&](size_t begin, int64_t count) { comm.send(to, message.data() + begin, count); });
      comm.sent(to);
    });
  });
}

Napi::Value receive_from_rank(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const int from = info[0].ToNumber().Int32Value();
    const auto length = static_cast<size_t>(info[1].ToNumber().Int64Value());
    return environment(env).channel->start<Message>(
        env,
        [from, length](Context&, const CancelFlag&) {
          Message message(length);
          each_piece(length, [&](size_t begin, int64_t count) {
            Engine::instance().comm().receive(from, message.data() + begin, count);
          });
          return message;
        },
        to_value<Message>);
  });
}

Napi::Value leave_ranks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return rank_job(info.Env(), [](Engine& engine) {
      engine.sums().settle();
      engine.disconnect();
      engine.comm().leave();
    });
  });
}

Napi::Value close_ranks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return rank_job(info.Env(), [](Engine& engine) {
      engine.comm().close();
      engine.set_comm(std::make_unique<Alone>());
    });
  });
}

Napi::Value nccl_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    std::string reason;
    const auto library = cuda::Nccl::open(reason);
    if (library == nullptr) return to_value(env, NcclReport{"", "", reason});
    return to_value(env, NcclReport{library->path(), library->version(), reason});
  });
}

Napi::Value nccl_id(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string reason;
    const auto library = cuda::Nccl::open(reason);
    if (library == nullptr) fail("DEVICE", "there is no NCCL: ", reason);
    const cuda::NcclId id = library->new_id();
    return bytes(env, id.bytes.data(), id.bytes.size());
  });
}

Napi::Value connect_gpus(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const std::string device = info[0].ToString();
    const Message message = to_message(info[1]);
    cuda::NcclId id{};
    if (message.size() != id.bytes.size())
      fail("CONFIG", "the id of a group of GPUs has ", message.size(), " bytes; expected ", id.bytes.size());
    std::copy(message.begin(), message.end(), id.bytes.begin());
    return rank_job(env, [device, id](Engine& engine) { engine.connect(device, id); });
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
  Napi::Array array = Napi::Array::New(info.Env());
  for (const int core : os::allowed_cores()) array.Set(array.Length(), core);
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
  method("sendToRank", send_to_rank);
  method("receiveFromRank", receive_from_rank);
  method("meetRanksAside", meet_ranks_aside);
  method("nccl", nccl_info);
  method("ncclId", nccl_id);
  method("connectGpus", connect_gpus);
  method("leaveRanks", leave_ranks);
  method("closeRanks", close_ranks);
  method("endRanks", end_ranks);
  method("lostRank", lost_rank);
  method("allowedCores", allowed_cores);
}

}  // namespace lowrank::addon
