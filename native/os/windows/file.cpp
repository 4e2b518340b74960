#include "os/file.h"

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "os/windows/system.h"

namespace lowrank::os {
namespace {

/// Whoever has a file open does not keep others from renaming or removing it, as on other systems.
constexpr DWORD kShareAll = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// The system counts the bytes of one call in 32 bits.
constexpr int64_t kMostAtOnce = int64_t{1} << 30;

HANDLE system_handle(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }
intptr_t own_handle(HANDLE handle) { return reinterpret_cast<intptr_t>(handle); }

OVERLAPPED at_offset(int64_t offset) {
  OVERLAPPED at{};
  at.Offset = static_cast<DWORD>(offset);
  at.OffsetHigh = static_cast<DWORD>(static_cast<uint64_t>(offset) >> 32);
  return at;
}

DWORD piece(int64_t bytes) { return static_cast<DWORD>(std::min(bytes, kMostAtOnce)); }

/// Takes the room with it, except in sparse and compressed files.
bool set_size(HANDLE file, int64_t bytes) {
  FILE_END_OF_FILE_INFO end;
  end.EndOfFile.QuadPart = bytes;
  return SetFileInformationByHandle(file, FileEndOfFileInfo, &end, sizeof(end)) != 0;
}

}  // namespace

File::File(const std::string& path) : path_(path) {
  const HANDLE file =
      CreateFileW(wide(path).c_str(), GENERIC_READ, kShareAll, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE)
    fail("FILE_FORMAT", path, " cannot be opened: ", reason(), ". Check the path and its permissions.");
  handle_ = own_handle(file);
}

File::File(const NewFile& file) : path_(file.path_) {
  HANDLE copy = nullptr;
  if (DuplicateHandle(GetCurrentProcess(), system_handle(file.handle_), GetCurrentProcess(), &copy, GENERIC_READ, FALSE,
                      0) == 0)
    fail("FILE_FORMAT", path_, " cannot be opened: ", reason(), ".");
  handle_ = own_handle(copy);
}

File::~File() { CloseHandle(system_handle(handle_)); }

int64_t File::size() const {
  LARGE_INTEGER size;
  if (GetFileSizeEx(system_handle(handle_), &size) == 0)
    fail("FILE_FORMAT", path_, ": its size cannot be read: ", reason());
  return size.QuadPart;
}

bool File::lives_in_memory() const { return false; }

void File::read(void* out, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    OVERLAPPED at = at_offset(offset + done);
    DWORD got = 0;
    if (ReadFile(system_handle(handle_), static_cast<char*>(out) + done, piece(bytes - done), &got, &at) == 0 &&
        GetLastError() != ERROR_HANDLE_EOF)
      fail("FILE_FORMAT", path_, ": reading ", bytes, " bytes at offset ", offset, " failed: ", reason());
    if (got == 0) {
      fail("FILE_FORMAT", path_, " ended early: expected ", bytes, " bytes at offset ", offset, ", found ", done,
           ". The file is truncated or was changed while it was read; download it again.");
    }
    done += got;
  }
}

// Windows takes such hints only when a file is opened, and for the whole file.
void File::expect_no_order() const {}
void File::will_need(int64_t, int64_t) const {}
void File::drop(int64_t, int64_t) const {}

NewFile::NewFile(const std::string& path, int64_t bytes) : NewFile(path, bytes, false) {}

NewFile::NewFile(const std::string& path, int64_t bytes, bool nameless) : path_(path), bytes_(bytes) {
  const HANDLE file =
      CreateFileW(wide(path).c_str(), GENERIC_READ | GENERIC_WRITE | (nameless ? DELETE : 0), kShareAll, nullptr,
                  CREATE_NEW, FILE_ATTRIBUTE_NORMAL | (nameless ? FILE_FLAG_DELETE_ON_CLOSE : 0), nullptr);
  if (file == INVALID_HANDLE_VALUE) refused();
  handle_ = own_handle(file);
  if (set_size(file, bytes)) return;
  const DWORD error = GetLastError();
  CloseHandle(file);
  if (!nameless) DeleteFileW(wide(path).c_str());
  SetLastError(error);
  refused();
}

std::unique_ptr<NewFile> NewFile::nameless(const std::string& folder, int64_t bytes) {
  static std::atomic<int> made{0};
  // It has a name until it is closed; the system closes whatever a process that was killed had open.
  const std::string path = folder + "/.paged-" + std::to_string(GetCurrentProcessId()) + '-' + std::to_string(made++);
  return std::unique_ptr<NewFile>(new NewFile(path, bytes, true));
}

NewFile::~NewFile() { CloseHandle(system_handle(handle_)); }

void NewFile::refused() const {
  fail("WRITE", "cannot write ", path_, " (", bytes_, " bytes): ", reason(), "; no partial file was left");
}

void NewFile::write(const void* data, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    OVERLAPPED at = at_offset(offset + done);
    DWORD written = 0;
    if (WriteFile(system_handle(handle_), static_cast<const char*>(data) + done, piece(bytes - done), &written, &at) ==
        0)
      refused();
    done += written;
  }
}

// The pages stay for as long as the system likes; it writes them in the background by itself.
void NewFile::begin_to_put_away(int64_t, int64_t) const {}
void NewFile::put_away(int64_t, int64_t) const { sync(); }

void NewFile::sync() const {
  if (FlushFileBuffers(system_handle(handle_)) == 0) refused();
}

FileLock lock_file(int descriptor) {
  // Descriptors are counted by the C library of the program, not by the one in here; programs built on libuv tell.
  using HandleOf = HANDLE (*)(int);
  const auto handle_of = reinterpret_cast<HandleOf>(
      reinterpret_cast<void*>(GetProcAddress(GetModuleHandleW(nullptr), "uv_get_osfhandle")));
  if (handle_of == nullptr) return FileLock::unsupported;
  // A range that is locked cannot be read by others. One far behind the end keeps the text in front readable.
  OVERLAPPED range = at_offset(int64_t{1} << 62);
  if (LockFileEx(handle_of(descriptor), LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &range) != 0)
    return FileLock::taken;
  switch (GetLastError()) {
    case ERROR_LOCK_VIOLATION:
    case ERROR_IO_PENDING:
      return FileLock::held;
    case ERROR_INVALID_FUNCTION:
    case ERROR_NOT_SUPPORTED:
      return FileLock::unsupported;
    default:
      fail("WRITE", "a file cannot be locked: ", reason());
  }
}

}  // namespace lowrank::os
