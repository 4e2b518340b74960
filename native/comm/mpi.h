// MPI, opened at run time: one binary serves machines with and without it, and all families of its libraries.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/comm.h"

namespace lowrank {

/// Programs that start the ranks of a job, by how they connect them: Open MPI's own, or any that speaks PMI or PMIx.
enum class Launcher { open_mpi, pmi, pmix };
inline constexpr const char* kLauncherNames[] = {"open_mpi", "pmi", "pmix"};

/// A library of MPI that can be opened here.
struct FoundMpi {
  std::string name;     // as the system finds it
  std::string version;  // in its own words, the first line
};

/// The libraries that are installed, and the system's reasons for not opening the others. Nothing is connected.
struct MpiSearch {
  std::vector<FoundMpi> found;
  std::vector<std::string> reasons;
};
MpiSearch find_mpi();

/// Joins the ranks that a launcher started. To be called once, on the thread that will make the other calls.
/// Throws Error("RANKS") where no library understands the launcher, or it does not connect.
/// @param size number of ranks, where the launcher says it, else 0
/// @param named path of a library to open in place of those that are known; empty: none
/// @param patience how long a rank may be silent before it counts as lost
std::unique_ptr<Comm> join_mpi(Launcher launcher, int size, const std::string& named,
                               std::chrono::milliseconds patience);

/// Values that a program has from mpi.h. Handles are addresses, or numbers.
struct MpiConstants {
  uintptr_t world, byte;
  int serialized;  // MPI_THREAD_SERIALIZED
};
/// Constants of MPICH, and of all libraries that keep its binary interface.
inline constexpr MpiConstants kMpichConstants{0x44000000, 0x4c00010d, 2};
/// Constants of the standard binary interface of MPI 5.
inline constexpr MpiConstants kStandardConstants{0x101, 0x247, 2048};
/// Symbols of Open MPI, whose handles are addresses of these variables.
inline constexpr const char* kOpenMpiWorld = "ompi_mpi_comm_world";
inline constexpr const char* kOpenMpiByte = "ompi_mpi_byte";
inline constexpr int kOpenMpiSerialized = 2;

}  // namespace lowrank
