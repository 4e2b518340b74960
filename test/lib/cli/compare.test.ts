import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { project } from '../../e2e/project.js'
import { chats } from '../../e2e/tiny-model.js'
import { sweepTest } from '../../sweep.js'
import { scratchFolder } from '../scratch.js'
import { jsonLines, lowrank, signalWhen } from './lowrank.js'

const SMALL = ['--strategies', 'lora', '--no-controls', '--seeds', '2', '--test-rows', '3']
const settings = {
  ...{ strategy: { name: 'lora', r: 2 }, max_steps: 2, eval_dataset: 'dev.jsonl', packing: false },
}

interface Event {
  event: string
  id: string
  seed: number
  rate: number
  steps: number
}

sweepTest(
  'Ctrl-C ends a compare with the command that goes on with it, and verify repeats its cells',
  async () => {
    const { config, at } = project(settings)
    // Rows that are no training rows.
    writeFileSync(at('dev.jsonl'), chats(8, 40))
    const first = await lowrank(['compare', config, ...SMALL, '--json'], {
      watch: signalWhen('SIGINT', ({ stdout }) => stdout.split('"event":"rung"').length > 3),
    })
    expect(first.code).toBe(130)
    const command = `npx lowrank compare ${config} --strategies lora --seeds 2 --no-controls --test-rows 3 --resume`
    const events = jsonLines(first.stdout) as Event[]
    expect(events.at(-1)).toMatchObject({ event: 'error', code: 'INTERRUPTED', details: { command } })
    expect(events.map(({ event }) => event)).not.toContain('cell')
    expect(first.stderr).toContain(`Continue with:\n  ${command}`)
    expect(existsSync(at('out-compare', '.lowrank.lock'))).toBe(false)

    const resumed = await lowrank(['compare', config, ...SMALL, '--resume', '--json'])
    expect(resumed.code).toBe(0)
    const more = jsonLines(resumed.stdout) as Event[]
    expect(more.filter(({ event }) => event === 'cell').map(({ id }) => id)).toEqual(['lora/42', 'lora/43'])
    const rungs = [...events, ...more].filter(({ event }) => event === 'rung')
    const runs = rungs.map(({ seed, rate, steps }) => [seed, rate, steps].join())
    expect(runs.length).toBeGreaterThanOrEqual(14)
    expect(new Set(runs).size).toBe(runs.length)

    const verified = await lowrank(['compare', 'verify', at('out-compare'), '--cells', '1', '--json'])
    expect(verified.code).toBe(0)
    expect((jsonLines(verified.stdout) as object[]).at(-1)).toEqual({
      ...{ event: 'verification', same: true, cells: 1, same_binary: true, unrecorded: null },
    })
    const printed = await lowrank(['compare', at('out-compare')])
    expect(printed.stdout).toMatch(
      /1 of 2 cells was trained again with equal bits, on the instruction set \w+/,
    )
    const again = await lowrank(['compare', config, ...SMALL])
    expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('continue it with --resume') })
  },
)

test('compare is refused without a config, with flags of verify, and for a time that is none', async () => {
  const calls: [string[], string][] = [
    [['compare'], 'pass a config file'],
    [['compare', 'run.yaml', '--cells', '3'], '--cells is a flag of `lowrank compare verify`'],
    [['compare', 'verify'], 'name the results'],
    [['compare', 'verify', 'x', '--seeds', '3'], '--seeds is not a flag of `lowrank compare verify`'],
    [['compare', 'run.yaml', '--budget', 'long'], 'Expected a time above 0'],
    [['compare', 'run.yaml', '--equal', 'size'], 'rank, parameters, bytes, time'],
  ]
  for (const [args, message] of calls) {
    const { code, stderr } = await lowrank(args)
    expect(stderr).toContain(message)
    expect(code).toBe(2)
  }
  const { code, stderr } = await lowrank(['compare', 'verify', join(scratchFolder(), 'none')])
  expect([code, stderr]).toEqual([1, expect.stringContaining('does not exist')])
})
