// Binds the addon to glibc's older symbol versions, so that one built on a current distribution runs on glibc 2.28
// (Debian 10, RHEL 8, Ubuntu 20.04). The linker sends every reference to a name below to its __wrap_ function,
// those in the static libstdc++ included (the list is handed to it in CMakeLists.txt); compiled into the addon only.
//
// Changes in the newer versions that do not matter here: pthread_* and dl* moved from libpthread and libdl, which Node
// has loaded, into libc (2.34), and stat and fstat became symbols of their own (2.33).
#include <pthread.h>
#include <sys/stat.h>

#if defined(__x86_64__)
#define LOWRANK_OLDEST "GLIBC_2.2.5"
#define LOWRANK_STAT_VERSION 1
#elif defined(__aarch64__)
#define LOWRANK_OLDEST "GLIBC_2.17"
#define LOWRANK_STAT_VERSION 0
#else
#error "no glibc floor is known for this architecture: CMakeLists.txt must leave this file out"
#endif
#define LOWRANK_OLD_VERSION(alias, name) __asm__(".symver " #alias ", " #name "@" LOWRANK_OLDEST)

extern "C" {

int old_fxstat(int, int, struct stat*);
int old_xstat(int, const char*, struct stat*);
int old_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int old_pthread_join(pthread_t, void**);
int old_pthread_detach(pthread_t);
int old_pthread_once(pthread_once_t*, void (*)());
LOWRANK_OLD_VERSION(old_fxstat, __fxstat);
LOWRANK_OLD_VERSION(old_xstat, __xstat);
LOWRANK_OLD_VERSION(old_pthread_create, pthread_create);
LOWRANK_OLD_VERSION(old_pthread_join, pthread_join);
LOWRANK_OLD_VERSION(old_pthread_detach, pthread_detach);
LOWRANK_OLD_VERSION(old_pthread_once, pthread_once);
void* old_dlopen(const char*, int);
void* old_dlsym(void*, const char*);
char* old_dlerror();
LOWRANK_OLD_VERSION(old_dlopen, dlopen);
LOWRANK_OLD_VERSION(old_dlsym, dlsym);
LOWRANK_OLD_VERSION(old_dlerror, dlerror);

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker and the library give.
// With 64-bit offsets, as here, stat and stat64 are one structure.
int __wrap_fstat(int file, struct stat* out) { return old_fxstat(LOWRANK_STAT_VERSION, file, out); }
int __wrap_stat(const char* path, struct stat* out) { return old_xstat(LOWRANK_STAT_VERSION, path, out); }
int __wrap_fstat64(int file, struct stat* out) { return old_fxstat(LOWRANK_STAT_VERSION, file, out); }

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  return old_pthread_create(thread, attributes, run, argument);
}
int __wrap_pthread_join(pthread_t thread, void** result) { return old_pthread_join(thread, result); }
int __wrap_pthread_detach(pthread_t thread) { return old_pthread_detach(thread); }
int __wrap_pthread_once(pthread_once_t* once, void (*run)()) { return old_pthread_once(once, run); }

void* __wrap_dlopen(const char* file, int how) { return old_dlopen(file, how); }
void* __wrap_dlsym(void* library, const char* name) { return old_dlsym(library, name); }
char* __wrap_dlerror() { return old_dlerror(); }

// libstdc++ asks it (2.32) whether atomic counts may be skipped. In Node they may not: there are always threads.
char __libc_single_threaded = 0;
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"
