/** Compares the instruction set in use with the CPU's, as reported by the system rather than the addon. */
import { readFileSync } from 'node:fs'

/** Flags of the first CPU in /proc/cpuinfo; empty on other systems. */
export function processorFlags(): string[] {
  try {
    const [, flags = ''] = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? []
    return flags.trim().split(' ')
  } catch {
    return []
  }
}

/**
 * Explains why the level in use is lower than the CPU supports; undefined if it is not. The portable kernels are many
 * times slower, and nothing else reveals that they are in use.
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
