/**
 * CUDA's kernels as two compilers translated them, run by the PTX interpreter of the native tests. The compilers are fetched
 * with pip; where they cannot be had, the tests say so. The same cases run in emulated.test.ts on the emulated sources.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hasStandin, standin } from '../lib/native/cuda-standin.js'
import { expectLikeTheCpu, expectScriptLikeTheCpu, type Run } from '../lib/native/devices.js'
import { scratchFolder } from '../lib/scratch.js'
import { nativeCudaTests } from './executables.js'

const root = resolve(import.meta.dirname, '..', '..')
const sources = join(root, 'test', 'native', 'backends', 'cuda')
const ptx = join(root, 'out', 'cuda', 'ptx')
const traffic = mkdtempSync(join(tmpdir(), 'lowrank-traffic-'))
const executable = await nativeCudaTests()
const minutes = 60_000
let unavailable: string | undefined

const files = readdirSync(sources).filter(
  (file) =>
    file.endsWith('.test.cpp') &&
    readFileSync(join(sources, file), 'utf8').match(/for_each_execution\(|check_like_cpu\(|LOWRANK_CUDA_PTX/),
)

/** Everything that a command says, and its exit code. */
function run(command: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env } })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  }
  return new Promise<{ code: number | null; said: string }>((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ code, said }))
  })
}

/** Names that the test executable has for its files. */
async function listed(): Promise<string[]> {
  if (!executable) return []
  const { said } = await run(executable, ['--list'])
  return said.split('\n').map((line) => line.split('\t')[0] ?? '')
}

beforeAll(async () => {
  const { code, said } = await run(process.execPath, ['scripts/cuda.mjs', 'ptx', '--out', ptx])
  if (code === 0) return
  if (code !== 3) throw new Error(said)
  unavailable = said.trim()
}, 10 * minutes)

afterAll(() => rmSync(traffic, { recursive: true }))

for (const file of files) {
  test(
    `${file} holds for the PTX of two compilers`,
    async (context) => {
      if (unavailable) context.skip(unavailable)
      const name = (await listed()).find((path) => path.endsWith(`/cuda/${file}`))
      if (!name) return context.skip('this machine does not run CUDA’s kernels: Linux on x64 does')
      const { code, said } = await run(executable, ['--file', name], {
        LOWRANK_CUDA_PTX: ptx,
        LOWRANK_CUDA_TRAFFIC: join(traffic, `${file}.json`),
      })
      expect(said, said).toMatch(/^\d+ passed, 0 failed/m)
      expect(code).toBe(0)
    },
    10 * minutes,
  )
}

/** The environment of a driver that interprets a pack of what a compiler made. */
async function interpreted(compiler: string): Promise<Record<string, string>> {
  const folder = scratchFolder()
  const pack = join(folder, 'lowrank.cuda')
  symlinkSync(join(ptx, compiler), join(folder, 'compute_80'))
  const made = await run(process.execPath, ['scripts/cuda/pack.mjs', '--from', folder, '--out', pack])
  expect(made.code, made.said).toBe(0)
  return standin({ LOWRANK_STANDIN: 'ptx', LOWRANK_CUDA_PACK: pack })
}

const packs: (Run & { compiler: string })[] = [
  { compiler: 'nvcc', precision: 'bf16', steps: 2 },
  { compiler: 'nvrtc', precision: 'fp32', steps: 2 },
]
for (const { compiler, ...of } of packs) {
  test(
    `every strategy trains by the PTX of ${compiler} from a kernel pack, in ${of.precision}`,
    async (context) => {
      if (unavailable) context.skip(unavailable)
      if (!hasStandin) return context.skip('the stand-in driver is for Linux on x64')
      await expectLikeTheCpu(of, await interpreted(compiler))
    },
    10 * minutes,
  )
}

for (const { compiler, precision, script } of [
  { compiler: 'nvcc', precision: 'bf16', script: 'loops.mjs' },
  { compiler: 'nvrtc', precision: 'fp32', script: 'tasks.mjs' },
] as const) {
  test(
    `${script} computes by the PTX of ${compiler} from a kernel pack as the CPU does, in ${precision}`,
    async (context) => {
      if (unavailable) context.skip(unavailable)
      if (!hasStandin) return context.skip('the stand-in driver is for Linux on x64')
      await expectScriptLikeTheCpu(script, precision, await interpreted(compiler))
    },
    10 * minutes,
  )
}

test('no kernel moves more bytes than traffic.json says', async (context) => {
  if (unavailable) context.skip(unavailable)
  if (readdirSync(traffic).length === 0) return context.skip('no kernel ran')
  const { code, said } = await run(process.execPath, ['scripts/cuda.mjs', 'traffic', '--from', traffic])
  expect(code, said).toBe(0)
})
