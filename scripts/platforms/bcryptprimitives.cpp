// The one function of Windows' bcryptprimitives.dll that programs written in Rust ask for, and that wine 8 does not have.
#include <windows.h>

// After the header that it builds on.
#include <ntsecapi.h>

extern "C" __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T bytes) {
  return RtlGenRandom(data, static_cast<ULONG>(bytes));
}
