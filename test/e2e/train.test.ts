/** Whole runs of the command line on a tiny model. */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Printed } from '../../lib/cli/schemas.js'
import { type Ended, jsonLines, lowrank, printed, send, signalWhen } from '../lib/cli/lowrank.js'
import { needs } from '../needs.js'
import { sweepTest } from '../sweep.js'
import { numbersOf, only, parseEvents, readMetrics } from './events.js'
import { project } from './project.js'

const bytesOf = (path: string) => readFileSync(path).toString('base64')

test('a run trains, evaluates, saves, and its adapter answers as it was taught', async () => {
  const { config, model, at } = project({
    max_steps: undefined,
    num_train_epochs: 8,
    eval_dataset: 'dev.jsonl',
    eval_steps: 50,
    save_steps: 40,
  })
  const { code, stdout, stderr } = await lowrank(['train', config, '--json'])
  expect(stderr).toContain('Planned memory')
  expect(code).toBe(0)
  const events = parseEvents(stdout)

  expect(events.slice(0, 2).map(({ event }) => event)).toEqual(['start', 'plan'])
  const steps = only(events, 'step')
  expect(steps.map(({ step }) => step)).toEqual(steps.map((_, i) => i + 1))
  expect(steps.at(-1)?.epoch).toBe(8)
  expect(steps.at(-1)?.loss).toBeLessThan((steps[0]?.loss as number) / 5)
  const evaluations = only(events, 'eval')
  expect(evaluations.map(({ step }) => step)).toEqual([0, 50, 100, steps.length])
  expect(only(events, 'checkpoint')).toMatchObject([
    { event: 'checkpoint', step: 40, path: at('out', 'checkpoint-40') },
    { event: 'checkpoint', step: 80, path: at('out', 'checkpoint-80') },
  ])
  expect(events.at(-1)).toMatchObject({ event: 'done', output_dir: at('out'), steps: steps.length })
  // The answers come after the end in the record, without the command, and before it here.
  const untimed = (all: readonly { event: string }[]) =>
    all.flatMap(({ time, ...event }: { time?: number; event: string }) =>
      event.event === 'samples' ? [] : [event],
    )
  const recorded = readMetrics(at('out', 'metrics.jsonl'))
  expect(untimed(recorded)).toEqual(untimed(events))
  expect(recorded.at(-1)?.event).toBe('samples')

  const base = ['--model', model, '--quantization', 'nf4', '--json']
  const adapter = ['--adapter', at('out')]
  const prompts = ['--prompt', 'Colour of sky 0?', 'Colour of sun 2?', '--max-new-tokens', '20']
  const [fromConfig, withAdapter, alone, answers, untaught] = await Promise.all([
    lowrank(['eval', config, '--json']),
    lowrank([
      'eval',
      ...base,
      ...adapter,
      '--dataset',
      at('dev.jsonl'),
      '--max-seq-length',
      '96',
      '--batch',
      '2',
    ]),
    lowrank(['eval', config, '--no-adapter', '--json']),
    lowrank(['generate', ...base, ...adapter, ...prompts]),
    lowrank(['generate', ...base, ...prompts]),
  ])
  const [evaluated] = jsonLines(fromConfig.stdout) as [Record<string, unknown>]
  const last = evaluations.at(-1)
  expect(evaluated).toMatchObject({ loss: last?.loss, perplexity: last?.perplexity, tokens: last?.tokens })
  expect(jsonLines(withAdapter.stdout)).toMatchObject([
    { loss: last?.loss, adapters: [{ path: at('out'), weight: 1 }] },
  ])
  const [before] = jsonLines(alone.stdout) as [{ loss: number; adapters: [] }]
  expect(before.adapters).toEqual([])
  expect(before.loss).toBeGreaterThan(5 * (last?.loss as number))
  const taught = jsonLines(answers.stdout) as { prompt: string; text: string; finish_reason: string }[]
  expect(taught.map(({ prompt }) => prompt)).toEqual(['Colour of sky 0?', 'Colour of sun 2?'])
  for (const { text, finish_reason } of taught) {
    expect(text).toMatch(/^It is (red|green|blue|white|black)\.$/)
    expect(finish_reason).toBe('stop')
  }
  const [first] = jsonLines(untaught.stdout) as [{ text: string }]
  expect(first.text).not.toContain('It is')
})

sweepTest(
  'full fine-tuning saves a model that answers as it was taught, and resumes to the same bytes',
  async () => {
    const settings = {
      strategy: { name: 'full' },
      learning_rate: 2e-3,
      max_steps: undefined,
      num_train_epochs: 6,
    }
    const whole = project(settings)
    const cut = project({ ...settings, save_steps: 30 })
    const { code, stderr } = await lowrank(['train', whole.config, '--json'])
    expect(stderr).toContain('Planned memory')
    expect(code).toBe(0)
    expect(existsSync(whole.at('out', 'adapter_config.json'))).toBe(false)
    const prompts = ['--prompt', 'Colour of sky 0?', '--max-new-tokens', '20', '--json']
    const [fromConfig, fromFolder, base] = await Promise.all([
      lowrank(['generate', whole.config, ...prompts]),
      lowrank(['generate', '--model', whole.at('out'), ...prompts]),
      lowrank(['generate', whole.config, '--no-adapter', ...prompts]),
    ])
    const textOf = (run: { stdout: string }) => (jsonLines(run.stdout) as [{ text: string }])[0].text
    expect(textOf(fromFolder)).toMatch(/^It is (red|green|blue|white|black)\.$/)
    expect(textOf(fromConfig)).toBe(textOf(fromFolder))
    expect(textOf(base)).not.toContain('It is')

    await lowrank(['train', cut.config, '--json'])
    rmSync(cut.at('out', 'model.safetensors'))
    for (const name of readdirSync(cut.at('out')).filter((file) => file.startsWith('checkpoint-')))
      if (name !== 'checkpoint-30') rmSync(cut.at('out', name), { recursive: true })
    const resumed = await lowrank(['train', cut.config, '--resume', '--json'])
    expect(resumed.code).toBe(0)
    expect(bytesOf(cut.at('out', 'model.safetensors'))).toBe(bytesOf(whole.at('out', 'model.safetensors')))
  },
)

sweepTest('the plan of a config is the plan of its run', async () => {
  const { config } = project({ max_steps: 1, eval_dataset: 'dev.jsonl' })
  const [plan, run] = await Promise.all([
    lowrank(['plan', config, '--json']),
    lowrank(['train', config, '--json']),
  ])
  const [planned] = jsonLines(plan.stdout) as [Printed<'plan'>]
  const [event] = only(parseEvents(run.stdout), 'plan')
  expect(event).toMatchObject({ event: 'plan', peak_bytes: planned.peak_bytes, rows: planned.rows })
  expect(planned.rows.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(planned.peak_bytes)
})

sweepTest('the config that a run writes down makes the same run', async () => {
  const { config, at } = project({ max_steps: 4 })
  const first = await lowrank(['train', config, '--json'])
  const again = await lowrank(['train', at('out', 'config.yaml'), '--set', 'output_dir=again', '--json'])
  expect(again.code).toBe(0)
  expect(numbersOf(parseEvents(again.stdout))).toEqual(numbersOf(parseEvents(first.stdout)))
})

sweepTest(
  'a second run in the same folder is refused while the first is at work, and changes nothing of it',
  async () => {
    needs('SIGSTOP')
    const it = project({ max_steps: 60, save_steps: 20 })
    let second: ReturnType<typeof lowrank> | undefined
    let pid: number | undefined
    const first = await lowrank(['train', it.config, '--json'], {
      watch: (child, { stdout }) => {
        if (second !== undefined || !stdout.includes('"step":2,')) return
        pid = child.pid
        // It goes on when the other one has ended.
        child.kill('SIGSTOP')
        second = lowrank(['train', it.config, '--json']).finally(() => child.kill('SIGCONT'))
      },
    })
    const refused = await second
    expect(refused?.code).toBe(1)
    expect(printed<'train'>(refused as Ended)).toEqual([
      expect.objectContaining({ event: 'error', code: 'BUSY', details: expect.objectContaining({ pid }) }),
    ])
    expect(first.code).toBe(0)
    expect(readMetrics(it.at('out', 'metrics.jsonl')).filter(({ event }) => event === 'step')).toHaveLength(
      60,
    )
    expect(existsSync(it.at('out', '.lowrank.lock'))).toBe(false)
  },
)

test('killed and resumed, a run makes the same numbers to the last bit as one left alone', async () => {
  const settings = { max_steps: 60, save_steps: 4, gradient_accumulation_steps: 2 }
  const whole = project(settings)
  const killed = project(settings)
  const uninterrupted = lowrank(['train', whole.config, '--json'])
  const first = await lowrank(['train', killed.config, '--json'], {
    watch: signalWhen('SIGKILL', ({ stdout }) => stdout.includes('"step":9,')),
  })
  expect(first.code).toBeNull()
  const done = parseEvents(first.stdout.slice(0, first.stdout.lastIndexOf('\n')))
  expect(only(done, 'step').length).toBeLessThan(60)
  const resumed = await lowrank(['train', killed.config, '--resume', '--json'])
  expect(resumed.code).toBe(0)
  const rest = numbersOf(parseEvents(resumed.stdout))
  const all = numbersOf(parseEvents((await uninterrupted).stdout))
  expect(rest.length).toBeLessThan(60)
  expect(rest).toEqual(all.slice(-rest.length))
  expect(numbersOf(done)).toEqual(all.slice(0, numbersOf(done).length))
  expect(numbersOf(readMetrics(killed.at('out', 'metrics.jsonl')))).toEqual(all)
  const weights = ['out', 'adapter_model.safetensors']
  expect(bytesOf(killed.at(...weights))).toBe(bytesOf(whole.at(...weights)))
})

sweepTest('one and two threads make the same bits', async () => {
  const runs = [1, 2].map(async (threads) => {
    const { config, at } = project({ threads })
    const { code, stdout } = await lowrank(['train', config, '--json'])
    expect(code).toBe(0)
    return { steps: numbersOf(parseEvents(stdout)), weights: bytesOf(at('out', 'adapter_model.safetensors')) }
  })
  const [one, two] = await Promise.all(runs)
  expect(two).toEqual(one)
})

test('a run starts from the adapter of another, also when it is resumed without it', async () => {
  const it = project({ sample_rows: 0, eval_dataset: 'dev.jsonl', eval_steps: 4, save_steps: 4 })
  const losses = async (...args: string[]) => {
    const { code, stdout, stderr } = await lowrank(['train', it.config, '--json', ...args])
    expect(code, stderr).toBe(0)
    const lines = jsonLines(stdout) as { event: string; step: number; loss: number }[]
    return lines.filter(({ event }) => event === 'eval')
  }
  const first = await losses('--set', 'output_dir=first')
  const next = ['--set', 'init_adapter=first', '--set', 'seed=7']
  const second = await losses(...next)
  expect(second[0]).toMatchObject({ step: 0, loss: first.at(-1)?.loss })
  rmSync(it.at('out', 'checkpoint-12'), { recursive: true })
  rmSync(it.at('first'), { recursive: true })
  expect((await losses(...next, '--resume')).at(-1)).toMatchObject({ step: 12, loss: second.at(-1)?.loss })
})

test('Ctrl-C finishes the step, saves a checkpoint and says how to go on', async () => {
  const { config, at } = project({ max_steps: 100_000 })
  const { code, stdout, stderr } = await lowrank(['train', config, '--set', 'seed=7', '--json'], {
    watch: signalWhen('SIGINT', (soFar) => soFar.stdout.includes('"step":3,')),
  })
  expect(code).toBe(130)
  const events = parseEvents(stdout)
  const step = only(events, 'step').at(-1)?.step
  const checkpoint = at('out', `checkpoint-${step}`)
  expect(events.slice(-3)).toMatchObject([
    { event: 'checkpoint', step, path: checkpoint },
    { event: 'stopped', step, path: checkpoint },
    {
      event: 'error',
      code: 'INTERRUPTED',
      message: expect.stringContaining(`stopped after step ${step}`),
      details: { step, checkpoint, resume: `npx lowrank train ${config} --set seed=7 --resume` },
    },
  ])
  expect(stderr).toContain(`Resume with:\n  npx lowrank train ${config} --set seed=7 --resume`)

  const resumed = await lowrank(['train', config, '--set', 'seed=7', '--resume', checkpoint, '--json'], {
    watch: signalWhen('SIGTERM', (soFar) => soFar.stdout.includes('"event":"step"')),
  })
  expect(resumed.code).toBe(130)
  expect(only(parseEvents(resumed.stdout), 'step')[0]?.step).toBe((step as number) + 1)
})

sweepTest(
  'a terminal that is closed, which may say so more than once, saves the run as Ctrl-C does',
  async () => {
    const { config, at } = project({ max_steps: 10_000 })
    let closed = false
    const ended = await lowrank(['train', config, '--json'], {
      watch: (child, { stdout }) => {
        if (closed || !stdout.includes('"step":3,')) return
        closed = true
        for (let i = 0; i < 5; i++) setTimeout(() => send(child, 'SIGHUP'), 2 * i)
      },
    })
    expect(ended.code).toBe(130)
    const [{ details }] = jsonLines(ended.stdout).slice(-1) as [{ details: { checkpoint: string } }]
    expect(existsSync(details.checkpoint)).toBe(true)
    expect(existsSync(at('out', '.lowrank.lock'))).toBe(false)
  },
)

test('SIGQUIT, as Ctrl-\\ sends it, saves the run as Ctrl-C does', async () => {
  needs('SIGSTOP')
  const { config, at } = project({ max_steps: 10_000 })
  const ended = await lowrank(['train', config, '--json'], {
    watch: signalWhen('SIGQUIT', ({ stdout }) => stdout.includes('"step":3,')),
  })
  expect(ended.code).toBe(130)
  const [{ details }] = jsonLines(ended.stdout).slice(-1) as [{ details: { checkpoint: string } }]
  expect(existsSync(details.checkpoint)).toBe(true)
  expect(existsSync(at('out', '.lowrank.lock'))).toBe(false)
})

sweepTest('Ctrl-C before the first step stops at once and leaves nothing behind', async () => {
  const { config, at } = project({}, 30_000)
  const { code, stderr } = await lowrank(['train', config], {
    watch: signalWhen('SIGINT', (soFar) => soFar.stderr.includes('Reading')),
  })
  expect(code).toBe(130)
  expect(stderr).toMatch(/^interrupted: stopped before the first new step; nothing was saved\.$/m)
  expect(existsSync(at('out'))).toBe(false)
})

sweepTest('a second Ctrl-C ends the process within a step', async () => {
  const long = { per_device_train_batch_size: 64, gradient_accumulation_steps: 64, max_steps: 3 }
  const { config, at } = project(long, 8000)
  const first = signalWhen('SIGINT', ({ stderr }) => stderr.includes('of them trained on'))
  const second = signalWhen('SIGINT', ({ stderr }) => stderr.includes('Finishing'))
  const { code } = await lowrank(['train', config], {
    watch: (child, soFar) => {
      first?.(child, soFar)
      second?.(child, soFar)
    },
  })
  expect(code).toBeNull()
  expect(readdirSync(at('out')).filter((name) => name.startsWith('checkpoint'))).toEqual([])
})
