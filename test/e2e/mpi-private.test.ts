/** Private training on ranks: the adapter, losses, and privacy of one process, bit by bit. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { numbersOf, only, parseEvents } from './events.js'
import { mpirun } from './mpi.js'
import { type Project, project } from './project.js'

const TIMEOUT = 240_000
const threads = { LOWRANK_THREADS: '1' }
const noise = { noise_multiplier: 0.5, noise_key: '5a'.repeat(32), delta: 1e-2, rounds: 3 }
const STRATEGIES = {
  clients: { name: 'dp-dylora', clients: { column: 'user' }, cohort: 6, local_epochs: 2, ...noise },
  examples: { name: 'dp-dylora', privacy_unit: 'example', cohort: 12, ...noise },
}

/** Eight clients, the first with the most rows. */
function privateProject(strategy: Record<string, unknown>, settings = {}): Project {
  const made = project({ strategy, max_steps: undefined, ...settings }, 48)
  const rows = readFileSync(made.at('train.jsonl'), 'utf8').trim().split('\n')
  const owned = rows.map((row, i) => JSON.stringify({ ...JSON.parse(row), user: `u${i % (1 + (i % 8))}` }))
  writeFileSync(made.at('train.jsonl'), owned.join('\n'))
  return made
}

const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]
const adapterOf = (folder: string) => readFileSync(`${folder}/adapter_model.safetensors`).toString('base64')

async function trained({ config, at }: Project, ranks: number, name: string, args: string[] = []) {
  const { wrap, env } = mpirun('MPICH')
  const call = ['train', config, '--json', ...set('output_dir', at(name)), ...args]
  const together = { wrap: wrap(ranks), env: { ...env, ...threads } }
  const { code, stdout, stderr } = await lowrank(call, ranks === 1 ? { env: threads } : together)
  expect({ code, stderr }).toMatchObject({ code: 0 })
  const events = parseEvents(stdout)
  const [done] = only(events, 'done')
  return { steps: numbersOf(events), spent: done?.privacy, adapter: adapterOf(at(name)) }
}

const CASES = (['clients', 'examples'] as const).flatMap((unit) =>
  [2, 3].map((ranks) => [unit, ranks] as const),
)

test.each(CASES)(
  '%s on %i ranks',
  async (unit, ranks) => {
    const made = privateProject(STRATEGIES[unit])
    const alone = await trained(made, 1, 'one')
    expect(alone.steps).toHaveLength(3)
    expect(await trained(made, ranks, 'more')).toEqual(alone)
  },
  TIMEOUT,
)

test(
  'the first rank draws the key, and rounds go on with another number of ranks',
  async () => {
    const { noise_key, ...secret } = STRATEGIES.clients
    const made = privateProject(secret, { save_steps: 1 })
    const whole = await trained(made, 2, 'whole')
    const again = await trained(made, 2, 'again')
    expect(again.adapter).not.toBe(whole.adapter)
    const resume = ['--resume', made.at('whole-secret', 'checkpoint-1')]
    for (const ranks of [1, 3]) {
      const on = await trained(made, ranks, `on-${ranks}`, resume)
      expect(on).toEqual({ ...whole, steps: whole.steps.slice(1) })
    }
  },
  TIMEOUT,
)

test(
  'a SIGTERM of one rank stops all of them, with a checkpoint of the last whole round',
  async () => {
    const { config, at } = privateProject({ ...STRATEGIES.clients, rounds: 5000 })
    const { wrap, env } = mpirun('MPICH')
    let sent = false
    const stopped = await lowrank(['train', config, '--json'], {
      wrap: (node, args) => wrap(2)('sh', ['-c', 'echo $$ > pid.$PMI_RANK; exec "$@"', 'sh', node, ...args]),
      env: { ...env, ...threads },
      cwd: at(),
      watch: (_, { stdout }) => {
        if (sent || !stdout.includes('"step":3,')) return
        sent = true
        process.kill(Number(readFileSync(at('pid.1'), 'utf8')), 'SIGTERM')
      },
    })
    const events = parseEvents(stopped.stdout)
    expect(only(events, 'checkpoint').at(-1)).toMatchObject({ step: only(events, 'step').at(-1)?.step })
    expect(stopped.code).toBe(130)
  },
  TIMEOUT,
)
