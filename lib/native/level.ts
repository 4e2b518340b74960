/** Compares the instruction set in use with the processor's, as the system reports it, not the addon. */
import { readFileSync } from 'node:fs'

/** Flags of the first processor in Linux's list; empty elsewhere. */
export function processorFlags(): string[] {
  try {
    const [, flags = ''] = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? []
    return flags.trim().split(' ')
  } catch {
    return []
  }
}

/**
 * Reason why a level is lower than this processor, or undefined. The portable kernels are many times slower, and
 * nothing else shows that they run.
 * @param forced the value of LOWRANK_ISA
 */
export function levelProblem(
  isa: string,
  processor: { arch: string; flags: readonly string[]; forced?: string | undefined },
): string | undefined {
  const { arch, flags, forced } = processor
  if (isa !== 'reference' || forced) return undefined
  const better =
    arch === 'arm64' ? 'NEON' : ['avx2', 'fma', 'f16c'].every((flag) => flags.includes(flag)) && 'AVX2'
  return better ? `the slow portable kernels are in use, although this processor has ${better}` : undefined
}
