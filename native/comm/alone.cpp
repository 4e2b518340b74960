#include "comm/alone.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace lowrank {

void Alone::gather(const void* own, void* all, int64_t bytes) { std::memcpy(all, own, static_cast<size_t>(bytes)); }

void Alone::exchange(const void* to, void* from, int64_t bytes) { std::memcpy(from, to, static_cast<size_t>(bytes)); }

void Alone::send(int to, const void*, int64_t) { fail("INTERNAL", "there is no rank ", to, " to send to"); }

void Alone::receive(int from, void*, int64_t) { fail("INTERNAL", "there is no rank ", from, " to receive from"); }

void Alone::end_all(int code) { std::_Exit(code); }

}  // namespace lowrank
