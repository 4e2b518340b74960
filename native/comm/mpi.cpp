#include "comm/mpi.h"

#include <algorithm>
#include <chrono>
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
  if (address == nullptr) fail("RANKS", "the MPI library has no function ", name, "; it is damaged, or not one of MPI's");
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

/// @param Handle of communicators, types and requests
template <class Handle>
class Mpi final : public Comm {
 public:
  Mpi(os::Library library, const MpiConstants& constants)
      : library_(std::move(library)), version_(version_of(library_)), world_(to_handle(constants.world)),
        byte_(to_handle(constants.byte)) {
    int given = 0;
    call<int(int*, char***, int, int*)>("MPI_Init_thread", nullptr, nullptr, constants.serialized, &given);
    call<int(Handle, int*)>("MPI_Comm_rank", world_, &rank_);
    call<int(Handle, int*)>("MPI_Comm_size", world_, &size_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string library() const override { return version_; }

  void gather(const void* own, void* all, int64_t bytes) override {
    collect("MPI_Iallgather", own, all, bytes);
  }
  void exchange(const void* to, void* from, int64_t bytes) override { collect("MPI_Ialltoall", to, from, bytes); }

  void leave() override { call<int()>("MPI_Finalize"); }

  void end_all(int code) override {
    call<int(Handle, int)>("MPI_Abort", world_, code);
    std::_Exit(code);
  }

 private:
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

  /// Both collectives have the same arguments. They are started and asked for, never waited for, so that the processor is
  /// left to whoever computes meanwhile, and to other threads' calls.
  void collect(const char* name, const void* from, void* to, int64_t bytes) {
    const int count = static_cast<int>(bytes);
    Handle request{};
    call<int(const void*, int, Handle, void*, int, Handle, Handle, Handle*)>(name, from, count, byte_, to, count, byte_,
                                                                           world_, &request);
    for (int attempt = 0; !is_done(request); ++attempt) pause(attempt);
  }

  bool is_done(Handle& request) {
    int done = 0;
    alignas(8) std::byte status[64];  // larger than that of any family
    call<int(Handle*, int*, void*)>("MPI_Test", &request, &done, status);
    return done != 0;
  }

  static void pause(int attempt) {
    constexpr int kBusy = 200;
    if (attempt < kBusy) return std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(attempt < 2 * kBusy ? 50 : 500));
  }

  const os::Library library_;
  const std::string version_;
  const Handle world_, byte_;
  int rank_ = 0, size_ = 1;
  std::mutex mutex_;  // MPI is asked for calls of one thread at a time
};

std::unique_ptr<Comm> connect(os::Library library, const std::string& name) {
  switch (family_of(library, name)) {
    case Family::open_mpi: {
      const auto address = [&](const char* variable) { return reinterpret_cast<uintptr_t>(library.find(variable)); };
      const MpiConstants constants{address(kOpenMpiWorld), address(kOpenMpiByte), kOpenMpiSerialized};
      return std::make_unique<Mpi<void*>>(std::move(library), constants);
    }
    case Family::standard:
      return std::make_unique<Mpi<void*>>(std::move(library), kStandardConstants);
    default:
      return std::make_unique<Mpi<int>>(std::move(library), kMpichConstants);
  }
}

/// Names of the libraries that understand a launcher, those to try first in front. Windows has none of them.
std::vector<std::string> libraries_for(Launcher launcher) {
  const std::string open_mpi = os::versioned_library("mpi", 40), standard = os::versioned_library("mpi_abi", 0),
                    mpich = os::versioned_library("mpich", 12), intel = os::versioned_library("mpi", 12);
  if (open_mpi.empty()) return {};
  switch (launcher) {
    case Launcher::open_mpi:
      return {open_mpi, standard};
    case Launcher::pmi:
      return {mpich, intel, standard};
    default:
      return {open_mpi, standard, mpich, intel};
  }
}

/// How to get what a launcher needs.
const char* remedy_for(Launcher launcher) {
  if (launcher == Launcher::pmi)
    return "Install MPICH where the job runs (Debian and Ubuntu: apt-get install mpich), or start it with the mpirun of a "
           "library that is there";
  return "Install Open MPI where the job runs (Debian and Ubuntu: apt-get install openmpi-bin)";
}

}  // namespace

MpiSearch find_mpi() {
  MpiSearch search;
  for (const std::string& name : libraries_for(Launcher::pmix)) {
    const os::Library library(name);
    if (library)
      search.found.push_back({name, version_of(library)});
    else
      search.reasons.push_back(library.reason());
  }
  return search;
}

std::unique_ptr<Comm> join_mpi(Launcher launcher, int size) {
  std::string reasons;
  for (const std::string& name : libraries_for(launcher)) {
    os::Library library(name, os::Library::Symbols::shared);  // plug-ins of Open MPI look for its symbols
    if (!library) {
      reasons += (reasons.empty() ? "" : "; ") + library.reason();
      continue;
    }
    std::unique_ptr<Comm> comm = connect(std::move(library), name);
    if (size > 0 && comm->size() != size)
      fail("RANKS", comm->library(), " (", name, ") sees ", comm->size(), " of the ", size,
           " processes that the launcher started, so it is not the launcher's library. Start them with its own mpirun, or run "
           "alone with LOWRANK_MPI=off");
    return comm;
  }
  fail("RANKS", "a launcher of MPI started this process, and no library that understands it can be opened: ",
       reasons.empty() ? "there is none for this system" : reasons, ". ", remedy_for(launcher),
       ", add its folder to LD_LIBRARY_PATH, or run alone with LOWRANK_MPI=off");
}

}  // namespace lowrank
