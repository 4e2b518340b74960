#include "comm/mpi.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "os/library.h"

namespace lowrank {
namespace {

/// Binary interfaces, which differ in what a handle is and in the values of constants.
enum class Family { open_mpi, mpich, standard };

Family family_of(const os::Library& library, const std::string& name) {
  if (library.find(kOpenMpiWorld) != nullptr) return Family::open_mpi;
  return name.find("mpi_abi") == std::string::npos ? Family::mpich : Family::standard;
}

/// A function of the library.
template <class Function>
Function* function_of(const os::Library& library, const char* name) {
  void* const address = library.find(name);
  if (address == nullptr)
    fail("RANKS", "the MPI library has no function ", name, "; it is damaged, or not one of MPI's");
  return reinterpret_cast<Function*>(address);
}

std::string version_of(const os::Library& library) {
  char text[8192] = {};  // as large as any of them asks for
  int length = 0;
  function_of<int(char*, int*)>(library, "MPI_Get_library_version")(text, &length);
  const std::string whole = text;
  std::string first = whole.substr(0, whole.find_first_of("\n,"));
  std::replace(first.begin(), first.end(), '\t', ' ');  // MPICH has one before its number
  return first;
}

using Clock = std::chrono::steady_clock;

/// @param Handle of communicators, types and requests
template <class Handle>
class Mpi final : public Comm {
 public:
  Mpi(os::Library library, const MpiConstants& constants, std::chrono::milliseconds patience)
      : library_(std::move(library)),
        version_(version_of(library_)),
        world_(to_handle(constants.world)),
        byte_(to_handle(constants.byte)),
        patience_(patience) {
    int given = 0;
    call<int(int*, char***, int, int*)>("MPI_Init_thread", nullptr, nullptr, constants.serialized, &given);
    call<int(Handle, int*)>("MPI_Comm_rank", world_, &rank_);
    call<int(Handle, int*)>("MPI_Comm_size", world_, &size_);
    peers_.resize(static_cast<size_t>(size_));
    if (size_ == 1 || given < constants.serialized) return;
    call<int(Handle, Handle*)>("MPI_Comm_dup", world_, &beside_);
    watch_ = std::thread([this] { watch(); });
  }
  ~Mpi() override { end_watch(); }
  Mpi(const Mpi&) = delete;
  Mpi& operator=(const Mpi&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string library() const override { return version_; }
  int lost() const override { return lost_; }

  void gather(const void* own, void* all, int64_t bytes) override { gather(world_, own, all, bytes); }
  void exchange(const void* to, void* from, int64_t bytes) override { exchange(world_, to, from, bytes); }
  std::unique_ptr<Collective> beside() override {
    return watch_.joinable() ? std::make_unique<Beside>(*this) : nullptr;
  }

  void send(int to, const void* data, int64_t bytes) override {
    sent(to);
    Peer& peer = peers_[static_cast<size_t>(to)];
    call<int(const void*, int, Handle, int, int, Handle, Handle*)>("MPI_Isend", data, static_cast<int>(bytes), byte_,
                                                                   to, kDataTag, world_, &peer.data);
    peer.sends_data = true;
  }
  void sent(int to) override {
    Peer& peer = peers_[static_cast<size_t>(to)];
    if (peer.sends_data) wait(peer.data);
    peer.sends_data = false;
  }
  void receive(int from, void* data, int64_t bytes) override {
    Handle request{};
    call<int(void*, int, Handle, int, int, Handle, Handle*)>("MPI_Irecv", data, static_cast<int>(bytes), byte_, from,
                                                             kDataTag, world_, &request);
    wait(request);
  }

  void leave() override {
    end_watch();
    // Nothing may be under way when MPI ends.
    const int64_t own = sent_;
    std::vector<int64_t> sent(static_cast<size_t>(size_));
    gather(&own, sent.data(), sizeof(own));
    for (int rank = 0; rank < size_; ++rank) {
      Peer& peer = peers_[static_cast<size_t>(rank)];
      if (rank != rank_)
        while (peer.heard < sent[static_cast<size_t>(rank)]) hear(rank);
      for (int attempt = 0; peer.sends && !is_done(peer.request); ++attempt) pause(attempt);
    }
    has_left_ = true;
  }
  void close() override { call<int()>("MPI_Finalize"); }

  void end_all(int code) override {
    if (!has_left_) call<int(Handle, int)>("MPI_Abort", world_, code);
    std::_Exit(code);
  }

 private:
  /// Another rank, as this one hears of it.
  struct Peer {
    Clock::time_point last = Clock::now();
    int64_t heard = 0;
    bool sends = false;  // something is on its way there
    Handle request{};
    bool sends_data = false;  // a message of `send` is on its way there
    Handle data{};
  };

  /// Calls among a duplicate of the communicator, whose messages never meet those of the original.
  class Beside final : public Collective {
   public:
    explicit Beside(Mpi& mpi) : mpi_(mpi) {}
    int rank() const override { return mpi_.rank_; }
    int size() const override { return mpi_.size_; }
    void gather(const void* own, void* all, int64_t bytes) override { mpi_.gather(mpi_.beside_, own, all, bytes); }
    void exchange(const void* to, void* from, int64_t bytes) override { mpi_.exchange(mpi_.beside_, to, from, bytes); }

   private:
    Mpi& mpi_;
  };

  static Handle to_handle(uintptr_t value) {
    if constexpr (std::is_pointer_v<Handle>)
      return reinterpret_cast<Handle>(value);
    else
      return static_cast<Handle>(value);
  }

  template <class Function, class... Arguments>
  void call(const char* name, Arguments... arguments) {
    const std::lock_guard lock(mutex_);
    const int error = function_of<Function>(library_, name)(arguments...);
    if (error != 0) fail("RANKS", name, " of ", version_, " failed with error ", error);
  }

  void gather(Handle among, const void* own, void* all, int64_t bytes) {
    collect(among, "MPI_Iallgather", own, all, bytes);
  }
  void exchange(Handle among, const void* to, void* from, int64_t bytes) {
    collect(among, "MPI_Ialltoall", to, from, bytes);
  }

  /// Both collectives have the same arguments.
  void collect(Handle among, const char* name, const void* from, void* to, int64_t bytes) {
    const int count = static_cast<int>(bytes);
    Handle request{};
    call<int(const void*, int, Handle, void*, int, Handle, Handle, Handle*)>(name, from, count, byte_, to, count, byte_,
                                                                             among, &request);
    wait(request);
  }

  /// Requests are asked for, never waited for by MPI, so that the processor is left to whoever computes meanwhile, and
  /// MPI to the thread that watches.
  void wait(Handle& request) {
    for (int attempt = 0; !is_done(request); ++attempt) {
      if (lost_ >= 0) fail("RANKS", "rank ", lost_.load(), " has not answered for ", patience_.count() / 1000, " s");
      pause(attempt);
    }
  }

  bool is_done(Handle& request) {
    int done = 0;
    call<int(Handle*, int*, void*)>("MPI_Test", &request, &done, static_cast<void*>(Status().bytes));
    return done != 0;
  }

  static void pause(int attempt) {
    constexpr int kBusy = 200;
    if (attempt < kBusy) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(attempt < 2 * kBusy ? 50 : 500));
  }

  /// Tells the other ranks every so often that this process runs, whatever its other threads do, and hears the same of
  /// them. A rank that computes for long is not lost; one whose process or machine has stopped is, which MPI itself may
  /// never say.
  void watch() {
    const auto interval = std::min(patience_ / 4, std::chrono::milliseconds(2000));
    Clock::time_point before = Clock::now();
    while (rested(interval)) {
      const Clock::time_point now = Clock::now();
      // This process itself was stopped meanwhile.
      const bool slept = now - before > patience_ / 2;
      before = now;
      for (int rank = 0; rank < size_; ++rank) {
        if (rank == rank_) continue;
        Peer& peer = peers_[static_cast<size_t>(rank)];
        if (hear(rank) || slept) peer.last = now;
        if (now - peer.last > patience_ && lost_ < 0) lost_ = rank;
        tell(rank, peer);
      }
      ++sent_;
    }
  }

  /// False once the watch has to end. Sleeps in slices, since a timed wait for a signal needs a glibc after 2.28.
  bool rested(std::chrono::milliseconds interval) const {
    constexpr std::chrono::milliseconds kSlice(20);
    for (const auto end = Clock::now() + interval; Clock::now() < end && !ending_;)
      std::this_thread::sleep_for(std::min(interval, kSlice));
    return !ending_;
  }

  void end_watch() {
    ending_ = true;
    if (watch_.joinable()) watch_.join();
  }

  /// Messages go out to all or to none, so that one count is enough; a rank that does not take them is waited for.
  void tell(int rank, Peer& peer) {
    if (peer.sends && !is_done(peer.request)) call<int(Handle*)>("MPI_Request_free", &peer.request);
    call<int(const void*, int, Handle, int, int, Handle, Handle*)>("MPI_Isend", &kMessage, 1, byte_, rank, kTag, world_,
                                                                   &peer.request);
    peer.sends = true;
  }

  /// True if something has come since the last time.
  bool hear(int rank) {
    bool any = false;
    for (;;) {
      int waits = 0;
      Status status;
      call<int(int, int, Handle, int*, void*)>("MPI_Iprobe", rank, kTag, world_, &waits,
                                               static_cast<void*>(status.bytes));
      if (waits == 0) return any;
      char message;
      call<int(void*, int, Handle, int, int, Handle, void*)>("MPI_Recv", &message, 1, byte_, rank, kTag, world_,
                                                             static_cast<void*>(status.bytes));
      ++peers_[static_cast<size_t>(rank)].heard;
      any = true;
    }
  }

  /// Larger than that of any family.
  struct Status {
    alignas(8) std::byte bytes[64];
  };
  static constexpr char kMessage = 1;
  static constexpr int kTag = 7, kDataTag = 8;

  const os::Library library_;
  const std::string version_;
  const Handle world_, byte_;
  Handle beside_{};  // a duplicate of world_, if other threads may make calls
  const std::chrono::milliseconds patience_;
  int rank_ = 0, size_ = 1;
  std::mutex mutex_;  // MPI is asked for calls of one thread at a time
  std::vector<Peer> peers_;
  std::atomic<int> lost_{-1};
  int64_t sent_ = 0;
  std::atomic<bool> ending_ = false;
  std::atomic<bool> has_left_ = false;
  std::thread watch_;
};

std::unique_ptr<Comm> connect(os::Library library, const std::string& name, std::chrono::milliseconds patience) {
  switch (family_of(library, name)) {
    case Family::open_mpi: {
      const auto address = [&](const char* variable) { return reinterpret_cast<uintptr_t>(library.find(variable)); };
      const MpiConstants constants{address(kOpenMpiWorld), address(kOpenMpiByte), kOpenMpiSerialized};
      return std::make_unique<Mpi<void*>>(std::move(library), constants, patience);
    }
    case Family::standard:
      return std::make_unique<Mpi<void*>>(std::move(library), kStandardConstants, patience);
    default:
      return std::make_unique<Mpi<int>>(std::move(library), kMpichConstants, patience);
  }
}

/// Names of the libraries that understand a launcher, those to try first in front. Windows has none of them.
std::vector<std::string> libraries_for(MpiLauncher launcher) {
  const std::string open_mpi = os::versioned_library("mpi", 40), standard = os::versioned_library("mpi_abi", 1),
                    mpich = os::versioned_library("mpich", 12), intel = os::versioned_library("mpi", 12);
  if (open_mpi.empty()) return {};
  switch (launcher) {
    case MpiLauncher::open_mpi:
      return {open_mpi, standard};
    case MpiLauncher::pmi:
      return {mpich, intel, standard};
    default:
      return {open_mpi, standard, mpich, intel};
  }
}

/// How to get what a launcher needs.
const char* remedy_for(MpiLauncher launcher) {
  if (launcher == MpiLauncher::pmi)
    return "Install MPICH where the job runs (Debian and Ubuntu: apt-get install mpich), or start it with the mpirun "
           "of a "
           "library that is there";
  return "Install Open MPI where the job runs (Debian and Ubuntu: apt-get install openmpi-bin)";
}

}  // namespace

MpiReport find_mpi() {
  MpiReport search;
  for (const std::string& name : libraries_for(MpiLauncher::pmix)) {
    const os::Library library(name);
    if (library)
      search.libraries.push_back({name, version_of(library)});
    else
      search.reasons.push_back(library.reason());
  }
  return search;
}

std::unique_ptr<Comm> join_mpi(MpiLauncher launcher, int size, const std::string& named,
                               std::chrono::milliseconds patience) {
  std::string reasons;
  for (const std::string& name : named.empty() ? libraries_for(launcher) : std::vector<std::string>{named}) {
    os::Library library(name, os::Library::Symbols::shared);  // plug-ins of Open MPI look for its symbols
    if (!library) {
      reasons += (reasons.empty() ? "" : "; ") + library.reason();
      continue;
    }
    std::unique_ptr<Comm> comm = connect(std::move(library), name, patience);
    if (size > 0 && comm->size() != size)
      fail("RANKS", comm->library(), " (", name, ") sees ", comm->size(), " of the ", size,
           " processes that the launcher started, so it is not the launcher's library. Start them with its own mpirun, "
           "or run "
           "alone with LOWRANK_MPI=off");
    return comm;
  }
  fail("RANKS", "a launcher of MPI started this process, and no library that understands it can be opened: ",
       reasons.empty() ? "there is none for this system" : reasons, ". ", remedy_for(launcher),
       ", add its folder to LD_LIBRARY_PATH, or run alone with LOWRANK_MPI=off");
}

}  // namespace lowrank
