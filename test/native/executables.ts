/**
 * The executables of the native tests, built where a test first asks for one: other tests run meanwhile. They can be given
 * instead, which is how sanitizer builds and those for other systems are tested.
 */
import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..', '..')

/** A path, or nothing where the native code does not build: the compiler's messages are on the terminal then. */
function built(part: string): Promise<string> {
  const child = spawn(process.execPath, [join(root, 'scripts', 'native.mjs'), part], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  return new Promise((done) => {
    child.on('close', (code) => done(code === 0 ? (stdout.trim().split('\n').at(-1) ?? '') : ''))
  })
}

/** True on a machine that runs CUDA's kernels on its CPU. */
export const EMULATES = process.platform === 'linux' && process.arch === 'x64'

let tests: Promise<string> | undefined
let cudaTests: Promise<string> | undefined

/** All native tests but those of CUDA's kernels. */
export function nativeTests(): Promise<string> {
  tests ??= Promise.resolve(process.env.LOWRANK_NATIVE_TESTS ?? built('tests'))
  return tests
}

/** The tests of CUDA's kernels, with the stand-ins for NVIDIA's libraries beside them; nothing where no CPU can run them. */
export function nativeCudaTests(): Promise<string> {
  const given =
    process.env.LOWRANK_CUDA_TESTS ?? (process.env.LOWRANK_NATIVE_TESTS === undefined ? undefined : '')
  cudaTests ??= Promise.resolve(given ?? (EMULATES ? built('cuda-tests') : ''))
  return cudaTests
}
