/** Compares the instruction set in use with the CPU's, as reported by the system rather than the addon. */
import { readFileSync } from 'node:fs'

/** Flags of the first CPU in /proc/cpuinfo; empty on other systems. */
function processorFlags(): string[] {
  try {
    const [, flags = ''] = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? []
    return flags.trim().split(' ')
  } catch {
    return []
  }
}

interface Processor {
  arch: string
  flags: readonly string[]
  /** The value of LOWRANK_ISA. */
  forced?: string | undefined
}

/** Says why the portable kernels are in use, which are many times slower; undefined if they are not. */
export function portableKernels(isa: string, processor: Processor): string | undefined {
  if (isa !== 'reference') return undefined
  const why = processor.forced
    ? `LOWRANK_ISA=${processor.forced} asks for them`
    : better(processor)
      ? `although this processor has ${better(processor)}`
      : 'this processor lacks AVX2, FMA, or F16C'
  return `the portable kernels are in use, many times slower than others: ${why}`
}

/** Instructions of the processor that the addon has kernels for, or undefined if it has none of them. */
function better({ arch, flags }: Processor): string | undefined {
  if (arch === 'arm64') return 'NEON'
  return ['avx2', 'fma', 'f16c'].every((flag) => flags.includes(flag)) ? 'AVX2' : undefined
}

/** The same where it is a fault of the addon: the processor has better ones, and nobody asked for these. */
export function levelProblem(isa: string, processor: Processor): string | undefined {
  return processor.forced || !better(processor) ? undefined : portableKernels(isa, processor)
}

/** What an addon's level is compared with. */
export function thisProcessor(): Processor {
  return { arch: process.arch, flags: processorFlags(), forced: process.env.LOWRANK_ISA }
}
