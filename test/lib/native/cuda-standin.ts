/**
 * The stand-in driver that is built with the tests of CUDA's kernels, as environment of a child process. For sweeps alone,
 * since it takes minutes to build.
 */
import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { nativeCudaTests } from '../../native/executables.js'
import { WHOLE } from '../../sweep.js'

const library = join(dirname(WHOLE ? await nativeCudaTests() : ''), 'liblowrank_cuda_standin.so')

/** The stand-in for NCCL. */
export const ncclStandin = join(dirname(library), 'liblowrank_nccl_standin.so')

/** True if there is one: on Linux on x64, where those tests are built. */
export const hasStandin = existsSync(library)

/** Variables for a program that is to see its cards. The pack with its kernels is made by the first look at them. */
export function standin(more: Record<string, string> = {}): Record<string, string> {
  const pack = join(mkdtempSync(join(tmpdir(), 'lowrank-cuda-')), 'lowrank.cuda')
  return { LOWRANK_LIBCUDA: library, LOWRANK_STANDIN_PACK: pack, LOWRANK_CUDA_PACK: pack, ...more }
}
