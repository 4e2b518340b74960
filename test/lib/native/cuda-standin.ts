/** The stand-in driver that is built with the native tests, as environment of a child process. */
import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { inject } from 'vitest'

const library = join(dirname(inject('nativeTests')), 'liblowrank_cuda_standin.so')

/** The stand-in for NCCL. */
export const ncclStandin = join(dirname(library), 'liblowrank_nccl_standin.so')

/** True if there is one: on Linux on x64, where the native tests are built. */
export const hasStandin = existsSync(library)

/** Variables for a program that is to see its cards. The pack with its kernels is made by the first look at them. */
export function standin(more: Record<string, string> = {}): Record<string, string> {
  const pack = join(mkdtempSync(join(tmpdir(), 'lowrank-cuda-')), 'lowrank.cuda')
  return { LOWRANK_LIBCUDA: library, LOWRANK_STANDIN_PACK: pack, LOWRANK_CUDA_PACK: pack, ...more }
}
