/** Private training that is killed and resumed: every round is released once, with the same numbers. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, watch } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { counterUniform } from '../../lib/core/counter-random.js'
import { type Ended, lowrank, send } from '../lib/cli/lowrank.js'
import { scratchFile } from '../lib/scratch.js'
import { swept, WHOLE } from '../sweep.js'
import { numbersOf, only, parseEvents, readMetrics } from './events.js'
import { project } from './project.js'
import { chats } from './tiny-model.js'

const CLIENTS = 10
const ROUNDS = WHOLE ? 300 : 60
const TARGET = 8

function privateProject() {
  const rows = chats(3 * CLIENTS)
    .trim()
    .split('\n')
  const owned = rows.map((row, i) => JSON.stringify({ ...JSON.parse(row), user: `u${i % CLIENTS}` }))
  return project({
    strategy: {
      name: 'dp-dylora',
      adapter: { name: 'dylora', r: 4, lora_alpha: 8, trained_ranks: 'active' },
      clients: { column: 'user' },
      target_epsilon: TARGET,
      rounds: ROUNDS,
      cohort: 4,
      server_optimizer: 'adam',
      server_learning_rate: 0.01,
    },
    dataset: scratchFile('clients.jsonl', `${owned.join('\n')}\n`),
    max_steps: undefined,
    save_steps: 5,
    save_total_limit: null,
    threads: 1,
  })
}

/** The output of a killed process may end within a line. */
const whole = (text: string) => text.slice(0, text.lastIndexOf('\n') + 1)
const weightsOf = (folder: string) => readFileSync(`${folder}/adapter_model.safetensors`)

/**
 * Time of the kill: at the n-th file or folder that is being written, or a little after so many rounds of this process.
 */
type Instant = { writing: number } | { rounds: number; later: number }

/** Runs until that instant, or to the end where that comes first. */
async function killedAt(instant: Instant, args: string[], folder: string): Promise<Ended> {
  const writing = new Set<string>()
  let sent = false
  let kill = () => {}
  // Incomplete files have another name.
  const watcher = watch(folder, (_, name) => {
    if (name?.endsWith('.tmp')) writing.add(name)
    if ('writing' in instant && writing.size >= instant.writing) kill()
  })
  try {
    return await lowrank(args, {
      watch: (child, { stdout }) => {
        kill = () => child.kill('SIGKILL')
        if ('writing' in instant || sent || !(stdout.split('"event":"step"').length > instant.rounds)) return
        sent = true
        setTimeout(kill, instant.later)
      },
    })
  } finally {
    watcher.close()
  }
}

test('what a killed run left half written, which may hold its key, is gone after the next one', async () => {
  const { config, at } = privateProject()
  const out = at('out')
  const secret = at('out-secret')
  mkdirSync(secret)
  const left = () =>
    [secret, dirname(out)].flatMap((path) => readdirSync(path)).filter((name) => name.endsWith('.tmp'))
  for (let attempt = 0; left().length === 0 && attempt < 10; attempt++) {
    await killedAt({ writing: 1 + attempt }, ['train', config, '--json', '--set', 'save_steps=1'], secret)
    rmSync(join(secret, 'checkpoint-0'), { recursive: true, force: true })
  }
  expect(left().length).toBeGreaterThan(0)
  const again = ['train', config, '--json', '--set', 'strategy.rounds=2']
  expect(await lowrank(again)).toMatchObject({ code: 0 })
  expect(left()).toEqual([])
})

test('killed at any moment and resumed, a private run releases what one left alone releases', async () => {
  const { config, at } = privateProject()
  const out = at('out')
  const secret = at('out-secret')
  mkdirSync(secret)
  const draw = (index: number, below: number) => Math.floor(counterUniform(11, 'kill', index) * below)
  const instants = swept<Instant>(
    [
      { rounds: 0, later: 0 },
      { writing: 2 },
      ...[1, 2].map((i) => ({ rounds: 2 + draw(i, 20), later: draw(10 + i, 25) })),
      { writing: 1 + draw(20, 6) },
    ],
    2,
  )
  const made = new Map<number, unknown>()
  const keep = () => {
    if (!existsSync(join(secret, 'metrics.jsonl'))) return
    const steps = numbersOf(
      parseEvents(whole(readFileSync(join(secret, 'metrics.jsonl'), 'utf8')), 'metrics'),
    )
    for (const [i, numbers] of steps.entries()) {
      expect(numbers.step).toBe(i + 1)
      expect(numbers).toEqual(made.get(numbers.step) ?? numbers)
      expect(numbers.epsilon).toBeLessThanOrEqual(TARGET)
      made.set(numbers.step, numbers)
    }
  }
  for (const instant of instants) {
    // Before there is a key nothing has been released, and the run begins anew.
    const begun = existsSync(join(secret, 'checkpoint-0'))
    if (!begun) expect(made.size).toBe(0)
    const { code } = await killedAt(
      instant,
      ['train', config, '--json', ...(begun ? ['--resume'] : [])],
      secret,
    )
    keep()
    expect(code).toBeNull()
  }
  const resumed = await lowrank(['train', config, '--resume', '--json'])
  expect(resumed).toMatchObject({ code: 0 })
  keep()
  expect([...made.keys()]).toEqual(Array.from({ length: ROUNDS }, (_, i) => i + 1))

  cpSync(join(secret, 'checkpoint-0'), at('whole-secret', 'checkpoint-0'), { recursive: true })
  const alone = await lowrank(['train', config, '--set', `output_dir=${at('whole')}`, '--resume', '--json'])
  expect(alone).toMatchObject({ code: 0 })
  expect(numbersOf(readMetrics(join(secret, 'metrics.jsonl')))).toEqual(numbersOf(parseEvents(alone.stdout)))
  expect(weightsOf(out).equals(weightsOf(at('whole')))).toBe(true)

  for (const folder of [out, at('whole')])
    expect(readdirSync(folder).sort()).toEqual([
      'README.md',
      'adapter_config.json',
      'adapter_model.safetensors',
      'lowrank.json',
    ])
  const [plan] = only(parseEvents(alone.stdout), 'plan')
  const [done] = only(parseEvents(resumed.stdout), 'done')
  expect(done?.privacy?.epsilon).toBe(plan?.privacy?.final_epsilon)
  expect(done?.privacy?.epsilon).toBeLessThanOrEqual(TARGET)
  const [spent, ...more] = JSON.parse(readFileSync(at('out', 'lowrank.json'), 'utf8')).privacy
  expect(spent).toEqual(done?.privacy)
  expect(more).toEqual([])
}, 180_000)

test('whoever trains privately is told what to hand on, and every verb finds the rest', async () => {
  const { config, at } = privateProject()
  const heldOut = ['--set', 'eval_fraction=0.3', '--set', 'eval_steps=100']
  const train = ['train', config, '--set', 'strategy.rounds=200', ...heldOut]
  const out = at('out')
  const secret = at('out-secret')
  let sent = false
  const interrupted = await lowrank(train, {
    watch: (child, { stderr }) => {
      if (sent || !stderr.includes('step 5: saved')) return
      sent = true
      send(child, 'SIGINT')
    },
  })
  expect(interrupted.code).toBe(130)
  expect(interrupted.stderr).toMatch(/out-secret[\\/]checkpoint-\d+ is saved\. Resume with:/)
  expect(readdirSync(out)).toEqual([])
  expect((await lowrank(['inspect', out])).stdout).toMatch(
    /adapter +none yet: .*\ncheckpoint +.*out-secret[\\/]checkpoint-/,
  )

  const { code, stdout, stderr } = await lowrank([...train, '--resume'])
  expect({ code, stderr }).toMatchObject({ code: 0 })
  expect(stderr).toMatch(/Resuming from .*out-secret[\\/]checkpoint-\d+\./)
  expect(stdout).toContain(
    `Share only ${out}: ${secret} holds the key of the noise, and losses without noise.\nThe adapter is in ${out}.`,
  )
  expect(stdout).not.toContain('load_best_model_at_end')
  expect(existsSync(join(secret, 'config.yaml'))).toBe(true)
  expect((await lowrank(['inspect', secret])).stdout).toContain(`adapter     ${out}\n`)

  const saved = join(secret, 'config.yaml')
  expect((await lowrank(['eval', saved, '--json'])).code).toBe(0)
  expect((await lowrank(['generate', saved, '--prompt', 'Hello', '--max-new-tokens', '2'])).code).toBe(0)
  const again = await lowrank(train)
  expect(again.code).toBe(2)
  expect(again.stderr).toContain(
    `${out} holds the adapter and ${secret} holds checkpoints of an earlier run. Use --resume to continue it`,
  )
  expect(await lowrank([...train, '--force', '--set', 'strategy.rounds=2'])).toMatchObject({ code: 0 })
})
