#include "os/mapped_file.h"

#include "os/windows/system.h"

// After the header that it builds on.
#include <psapi.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace lowrank::os {
namespace {

void* address(const std::byte* data) { return const_cast<std::byte*>(data); }

}  // namespace

int64_t page_bytes() {
  static const int64_t bytes = [] {
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return static_cast<int64_t>(system.dwPageSize);
  }();
  return bytes;
}

bool drops_pages() { return false; }

MappedFile::MappedFile(const std::string& path) : file_(path), bytes_(file_.size()) {
  if (bytes_ == 0) fail("FILE_FORMAT", path, " is empty, so it cannot be mapped.");
  const HANDLE mapping =
      CreateFileMappingW(reinterpret_cast<HANDLE>(file_.handle()), nullptr, PAGE_READONLY, 0, 0, nullptr);
  if (mapping != nullptr) data_ = static_cast<const std::byte*>(MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0));
  const DWORD error = GetLastError();
  if (mapping != nullptr) CloseHandle(mapping);  // the view keeps it
  SetLastError(error);
  if (data_ == nullptr) fail("FILE_FORMAT", path, " cannot be mapped: ", reason(), ".");
}

MappedFile::~MappedFile() { UnmapViewOfFile(data_); }

// The system refuses to shorten a file that is mapped.
void MappedFile::expect_whole() const {}

void MappedFile::prefetch() const { will_need(0, bytes_); }

void MappedFile::expect_no_order() const {}

void MappedFile::will_need(int64_t offset, int64_t bytes) const {
  WIN32_MEMORY_RANGE_ENTRY range{address(data_ + offset), static_cast<SIZE_T>(bytes)};
  (void)PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
}

void MappedFile::load(int64_t offset, int64_t bytes) const {
  will_need(offset, bytes);
  touch(offset, bytes);
}

void MappedFile::drop(int64_t offset, int64_t bytes) const {
  const auto [begin, end] = pages_within(offset, bytes, bytes_);
  // Unlocking pages that are not locked removes them from the working set; the system may then reuse them.
  const int64_t mapped = std::min(end, bytes_);
  if (mapped > begin) (void)VirtualUnlock(address(data_ + begin), static_cast<SIZE_T>(mapped - begin));
}

int64_t MappedFile::resident_bytes() const {
  std::vector<PSAPI_WORKING_SET_EX_INFORMATION> pages(static_cast<size_t>((bytes_ + page_bytes() - 1) / page_bytes()));
  for (size_t page = 0; page < pages.size(); ++page)
    pages[page].VirtualAddress = address(data_ + static_cast<int64_t>(page) * page_bytes());
  const auto size = static_cast<DWORD>(pages.size() * sizeof(pages[0]));
  if (K32QueryWorkingSetEx(GetCurrentProcess(), pages.data(), size) == 0) return -1;
  return page_bytes() *
         std::count_if(pages.begin(), pages.end(), [](const auto& page) { return page.VirtualAttributes.Valid != 0; });
}

}  // namespace lowrank::os
