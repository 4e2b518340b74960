// Calls on open files and mapped pages that Linux and macOS make each in its own way. Those that return whether they
// succeeded leave the reason in errno.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lowrank::os::descriptor {

/// True if the file system keeps its files in memory.
bool lives_in_memory(int file);
/// Takes room on the disk for a file of this size. True also where the file system cannot: a full disk then shows in a
/// write.
bool reserve(int file, int64_t bytes);
/// Brings everything to the disk itself, past its own cache.
bool sync(int file);
/// Lets a range go to the disk in the background.
bool begin_to_put_away(int file, int64_t offset, int64_t bytes);
/// Brings a range to the disk and lets go of its pages.
bool put_away(int file, int64_t offset, int64_t bytes);

// Hints: where one is refused, or the system has none, reading still works.
void expect_no_order(int file);
void will_need(int file, int64_t offset, int64_t bytes);
void drop(int file, int64_t offset, int64_t bytes);

/// Looks up the pages of a mapping: one entry per page, whose lowest bit is set if it is in memory.
bool look_up_pages(const void* data, int64_t bytes, unsigned char* pages);

}  // namespace lowrank::os::descriptor
