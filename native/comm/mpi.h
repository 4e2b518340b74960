// MPI, loaded at run time: one binary works with and without it, and with all families of MPI libraries.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/comm.h"
#include "core/boundary.h"

namespace lowrank {

/// The installed libraries, and the system's errors for those that cannot be opened. Does not connect.
MpiReport find_mpi();

/// Joins the ranks started by a launcher. Call it once, on the thread that will make the other calls. Throws
/// Error("RANKS") if no library understands the launcher, or connecting fails.
/// @param size number of ranks if the launcher gives it, else 0
/// @param named path of a library to open instead of the known ones; empty: none
/// @param patience how long a rank may be silent before it counts as lost
std::unique_ptr<Comm> join_mpi(MpiLauncher launcher, int size, const std::string& named,
                               std::chrono::milliseconds patience);

/// Constants that programs normally get from mpi.h. Handles are addresses or numbers.
struct MpiConstants {
  uintptr_t world, byte;
  int serialized;  // MPI_THREAD_SERIALIZED
};
/// Constants of MPICH and all ABI-compatible libraries.
inline constexpr MpiConstants kMpichConstants{0x44000000, 0x4c00010d, 2};
/// Constants of the standard MPI 5 ABI.
inline constexpr MpiConstants kStandardConstants{0x101, 0x247, 2048};
/// Symbols of Open MPI, whose handles are the addresses of these variables.
inline constexpr const char* kOpenMpiWorld = "ompi_mpi_comm_world";
inline constexpr const char* kOpenMpiByte = "ompi_mpi_byte";
inline constexpr int kOpenMpiSerialized = 2;

}  // namespace lowrank
