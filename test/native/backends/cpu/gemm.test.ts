/**
 * Machine code of the innermost loops of the matrix kernels. A compiler that keeps the accumulators of a tile on
 * the stack instead of in registers gives right results at less than half the speed, and says nothing.
 */
import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { nativeTests } from '../../executables.js'

interface Instruction {
  address: number
  text: string
}

function run(command: string, ...args: string[]): string {
  return spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 29 }).stdout ?? ''
}

/** Tile kernels, and products of one row. */
const hotLoop = /::(sum_tile<|add_(code|dense|bf16)_rows<.*\b1>\()/

/** The kernels of the executable, by name. */
function tileKernels(executable: string): Map<string, Instruction[]> {
  const kernels = new Map<string, Instruction[]>()
  let current: Instruction[] | undefined
  for (const line of run('objdump', '-d', '-C', '--no-show-raw-insn', executable).split('\n')) {
    const title = /^[0-9a-f]+ <(.*)>:$/.exec(line)?.[1]
    if (title !== undefined) {
      current = hotLoop.test(title) ? [] : undefined
      if (current) kernels.set(title, current)
      continue
    }
    const instruction = /^\s*([0-9a-f]+):\s+(.*)$/.exec(line)
    if (current && instruction) {
      const [, address = '', text = ''] = instruction
      current.push({ address: Number.parseInt(address, 16), text })
    }
  }
  return kernels
}

/** The instructions between a backward jump and its target, for loops that contain no other loop. */
function innermostLoops(code: Instruction[]): Instruction[][] {
  const loops: Instruction[][] = []
  for (const [index, { address, text }] of code.entries()) {
    const target = Number.parseInt(/^j\w+\s+([0-9a-f]+) /.exec(text)?.[1] ?? '', 16)
    if (Number.isNaN(target) || target > address) continue
    const start = code.findIndex((other) => other.address === target)
    if (start >= 0) loops.push(code.slice(start, index + 1))
  }
  return loops.filter(
    (loop) => !loops.some((other) => other !== loop && other.every((i) => loop.includes(i))),
  )
}

const executable = await nativeTests()
const usable =
  process.arch === 'x64' &&
  executable !== '' &&
  spawnSync('objdump', ['--version']).status === 0 &&
  !/lib(asan|ubsan|tsan)\.so/.test(run('readelf', '--dynamic', executable))

describe.runIf(usable)('the tile kernels', () => {
  const kernels = tileKernels(executable)
  const multiplies = /^(vfmadd|vdpbf16ps|tdpbf16ps)/
  const loops = [...kernels].flatMap(([name, code]) =>
    innermostLoops(code)
      .filter((loop) => loop.some(({ text }) => multiplies.test(text)))
      .map((loop) => ({ name, loop })),
  )

  test('are there for every instruction set', () => {
    const text = loops.flatMap(({ loop }) => loop.map((instruction) => instruction.text))
    expect(text.some((instruction) => /^vfmadd.*%ymm/.test(instruction))).toBe(true)
    expect(text.some((instruction) => /^vfmadd.*%zmm/.test(instruction))).toBe(true)
    expect(text.some((instruction) => instruction.startsWith('vdpbf16ps'))).toBe(true)
  })

  test('store no vector inside their innermost loops', () => {
    const stores = loops.flatMap(({ name, loop }) =>
      loop
        .filter(({ text }) => /^vmov\w+\s+%[xyz]mm\d+,\s*-?\w*\(/.test(text))
        .map(({ text }) => `${name}: ${text}`),
    )
    expect(loops.length).toBeGreaterThan(20)
    expect(stores).toEqual([])
  })
})
