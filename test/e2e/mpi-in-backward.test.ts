/** Updates in the backward pass on ranks: the bits of updates after it, and an end for all when one fails. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { numbersOf, parseEvents } from './events.js'
import { MPI_FAMILIES, type MpiFamily, mpirun } from './mpi.js'
import { project } from './project.js'
import { lines, TASKS } from './tasks.js'

const TIMEOUT = 240_000
const threads = { LOWRANK_THREADS: '1' }
const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]
const settings = { learning_rate: 1e-3, max_steps: 8, max_grad_norm: 0 }
const STRATEGIES = {
  lora: { name: 'lora', r: 4, lora_dropout: 0.1 },
  full: { name: 'full' },
  adalora: { name: 'adalora', init_r: 6, target_r: 3, tinit: 1, tfinal: 2, delta_t: 1 },
  vera: { name: 'vera', r: 8 },
} as const

async function trained(family: MpiFamily, ranks: number, config: string, args: string[]) {
  const { wrap, env } = mpirun(family)
  return lowrank(['train', config, '--json', ...args], { wrap: wrap(ranks), env: { ...env, ...threads } })
}

const CASES = [
  ['lora', 'MPICH', 3],
  ['full', 'Open MPI', 2],
  ['adalora', 'MPICH', 2],
  ['vera', 'Open MPI', 2],
] as const

test.each(CASES)(
  '%s by %s on %i ranks',
  async (name, family, ranks) => {
    // 20 micro-batches in an epoch, so that the last step of one leaves one of three ranks without any.
    const { config, at } = project({ ...settings, strategy: STRATEGIES[name] })
    const run = (folder: string, inBackward: boolean) =>
      trained(family, ranks, config, [
        ...set('output_dir', at(folder)),
        ...set('optimizer_in_backward', inBackward),
      ])
    const ways = [await run('after', false), await run('in', true), await run('again', true)]
    for (const { code, stderr } of ways) expect({ code, stderr }).toMatchObject({ code: 0 })
    const [after, inside, again] = ways.map(({ stdout }) => numbersOf(parseEvents(stdout)))
    expect(inside).toHaveLength(8)
    expect(inside).toEqual(after)
    expect(again).toEqual(after)
    const file = name === 'full' ? 'model.safetensors' : 'adapter_model.safetensors'
    for (const folder of ['in', 'again'])
      expect(readFileSync(at(folder, file)).equals(readFileSync(at('after', file)))).toBe(true)
  },
  TIMEOUT,
)

test(
  'a run resumes with as many ranks only',
  async () => {
    const { config, at } = project({ ...settings, optimizer_in_backward: true, save_steps: 4 })
    expect(await trained('MPICH', 2, config, set('output_dir', at('two')))).toMatchObject({ code: 0 })
    const on = ['--resume', at('two', 'checkpoint-4'), ...set('output_dir', at('on'))]
    const alone = await lowrank(['train', config, ...on], { env: threads })
    expect(alone.code).not.toBe(0)
    expect(alone.stderr).toContain('the run was started with 2 ranks')
    const three = await trained('MPICH', 3, config, on)
    expect(three.code).not.toBe(0)
    expect(three.stderr.match(/error: /g)).toHaveLength(1)
    expect(await trained('MPICH', 2, config, on)).toMatchObject({ code: 0 })
    const adapter = (folder: string) => readFileSync(at(folder, 'adapter_model.safetensors'))
    expect(adapter('on').equals(adapter('two'))).toBe(true)
  },
  TIMEOUT,
)

test.each(['causal_lm', ...Object.keys(TASKS)])(
  'a step of %s that diverges ends all ranks, told once',
  async (task) => {
    const strategy = { name: 'lora', r: 4 }
    const diverging = { ...settings, strategy, task, optimizer_in_backward: true, learning_rate: 1e30 }
    const { config, at } = project(diverging)
    if (task in TASKS) writeFileSync(at('train.jsonl'), lines(TASKS[task as keyof typeof TASKS].rows))
    const ended = await trained('MPICH', 2, config, [])
    expect(ended.code).not.toBe(0)
    expect(ended.stdout.match(/"event":"error"/g)).toHaveLength(1)
    expect(ended.stdout).toContain('"code":"DIVERGED"')
  },
  TIMEOUT,
)

test.each(MPI_FAMILIES)(
  '%s: a rank that fails where others wait for it ends all of them, told once',
  async (family) => {
    const { config, at } = project({
      ...{ ...settings, optimizer_in_backward: true },
      dataset: { path: 'train.jsonl', streaming: true },
    })
    const rows = readFileSync(at('train.jsonl'), 'utf8').split('\n')
    writeFileSync(at('broken.jsonl'), [...rows.slice(0, 20), '{"mes', ...rows.slice(20)].join('\n'))
    const { wrap, env } = mpirun(family)
    const rank = '$PMI_RANK$OMPI_COMM_WORLD_RANK'
    const script = `d=train.jsonl; [ "${rank}" = 1 ] && d=broken.jsonl; exec "$@" --set dataset.path=$d`
    const failed = await lowrank(['train', config], {
      wrap: (node, args) => wrap(2)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, ...threads },
    })
    expect(failed.code).not.toBe(0)
    expect(failed.stderr.match(/error: /g)).toHaveLength(1)
    expect(failed.stderr).toMatch(/error: rank 1 on \S+: .*broken\.jsonl/)
  },
  TIMEOUT,
)
