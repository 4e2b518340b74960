/**
 * A compare that is killed at any moment goes on to the results of one that was left alone, and a verification on
 * another instruction set says so. The sweeps kill at 20 instants, `npm test` at two.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, test } from 'vitest'
import type { CompareResults } from '../../lib/compare/results.js'
import { readResults } from '../../lib/compare/results-file.js'
import { addon } from '../../lib/native/addon.js'
import { type Ended, lowrank, type RunOptions } from '../lib/cli/lowrank.js'
import { timeless } from '../lib/compare/timeless.js'
import { needs, skip } from '../needs.js'
import { swept } from '../sweep.js'
import { type Project, project } from './project.js'
import { chats } from './tiny-model.js'

const TIMEOUT = 240_000
const SMALL = ['--strategies', 'vera', '--no-controls', '--seeds', '2', '--test-rows', '3']
/** Percents of the time that the whole compare takes. */
const instants = Array.from({ length: 20 }, (_, i) => (5 * i + 32) % 100)

let made: Project
let whole: CompareResults
/** How long the compare takes that is left alone. */
let seconds: number
beforeAll(async () => {
  made = project({
    ...{ strategy: { name: 'lora', r: 2 }, max_steps: 6, eval_dataset: 'test.jsonl', packing: false },
  })
  writeFileSync(made.at('test.jsonl'), chats(8, 40))
  const begun = performance.now()
  await succeeds(compareTo('alone'))
  seconds = (performance.now() - begun) / 1000
  whole = await readResults(made.at('alone'))
}, TIMEOUT)

/** A command in a process of its own. */
const alone = (args: string[], options: RunOptions = {}) =>
  lowrank(['compare', ...args], { env: { LOWRANK_THREADS: '1' }, ...options })

const compareTo = (output: string, args: string[] = [], options: RunOptions = {}) =>
  alone([made.config, ...SMALL, '--output', made.at(output), ...args], options)

async function succeeds(command: Promise<Ended>): Promise<void> {
  const { code, stderr } = await command
  expect({ code, stderr }).toMatchObject({ code: 0 })
}

/** Kills a command after so many seconds. */
const killedAfter =
  (after: number): RunOptions['wrap'] =>
  (node, words) => ['sh', ['-c', '"$@" & sleep "$0"; kill -9 $!; wait $!', String(after), node, ...words]]

/** Everything but times; the hashes of cells have none in them. */
function untimed(results: CompareResults) {
  const hashes = results.entries.flatMap(({ cells }) => cells.map(({ hash }) => hash))
  return { results: timeless(results), hashes }
}

const filesIn = (output: string) => readdirSync(made.at(output)).sort()

test.each(swept(instants, 2))(
  'a compare that is killed after %i percent of its time has the same results once resumed',
  async (percent) => {
    needs('POSIX shells')
    const output = `killed-${percent}`
    await compareTo(output, [], { wrap: killedAfter((percent / 100) * seconds) })
    const isBegun = existsSync(made.at(output, 'results.json'))
    // What is there is whole at every moment.
    if (isBegun) await readResults(made.at(output))
    await succeeds(compareTo(output, isBegun ? ['--resume'] : []))
    expect(untimed(await readResults(made.at(output)))).toEqual(untimed(whole))
    expect(filesIn(output)).toEqual(filesIn('alone'))
  },
  TIMEOUT,
)

test(
  'results of another instruction set are verified with that one alone, which is named',
  async () => {
    const { isa, levels } = addon().cpu()
    const other = levels.find((level) => level !== isa)
    if (other === undefined) return skip(`this processor has ${isa} alone`)
    const on = (level: string) => ({ env: { LOWRANK_THREADS: '1', LOWRANK_ISA: level } })
    const refused = await alone(['verify', made.at('alone')], on(other))
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain(
      `results.json was made with the instruction set ${isa}, and this process uses ${other}, whose results have other bits; set LOWRANK_ISA=${isa} to compute with that one.`,
    )
    await succeeds(alone(['verify', made.at('alone'), '--cells', '1'], on(isa)))
  },
  TIMEOUT,
)
