// Loads and stores of AMX tiles for GCC on Windows. Its own cast the stride to a long, which has 32 bits there and
// cannot be an index register. Included after <immintrin.h>.
#pragma once

#if defined(_WIN32) && !defined(__clang__)
#undef _tile_loadd_internal
#undef _tile_stream_loadd_internal
#undef _tile_stored_internal
#define _tile_loadd_internal(tile, base, stride) \
  asm volatile("tileloadd\t(%0,%1,1), %%tmm" #tile::"r"((const void*)(base)), "r"((long long)(stride)))
#define _tile_stream_loadd_internal(tile, base, stride) \
  asm volatile("tileloaddt1\t(%0,%1,1), %%tmm" #tile::"r"((const void*)(base)), "r"((long long)(stride)))
#define _tile_stored_internal(tile, base, stride) \
  asm volatile("tilestored\t%%tmm" #tile ", (%0,%1,1)" ::"r"((void*)(base)), "r"((long long)(stride)) : "memory")
#endif
