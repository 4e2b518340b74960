// The table of a level: `run` where this level has one for a kernel. Included last.
template <class K>
static void entry(const Cpu& cpu, const void* k) {
  run(cpu, *static_cast<const K*>(k));
}
template <class K>
static constexpr Run entry_of() {
  if constexpr (requires(const Cpu& cpu, const K& k) { run(cpu, k); }) return entry<K>;
  return nullptr;
}
#define LOWRANK_ENTRY(K) entry_of<K>(),
static constexpr Table runs = {LOWRANK_KERNELS(LOWRANK_ENTRY)};
#undef LOWRANK_ENTRY
