/** Runs whose layers are split over ranks of MPI: the same bits as one process. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { needs } from '../needs.js'
import { numbersOf, only, parseEvents } from './events.js'
import { type MpiFamily, mpirun } from './mpi.js'
import { project } from './project.js'
import { tinyModel } from './tiny-model.js'

const TIMEOUT = 120_000
const ALONE = { LOWRANK_THREADS: '1' }
const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]
const adapterOf = (folder: string) => readFileSync(`${folder}/adapter_model.safetensors`)

/** A run of three micro-batches a step on a model of four layers. */
function layered(settings: Record<string, unknown> = {}, model = 'smollm3') {
  return project({
    model: tinyModel(model),
    split: 'layers',
    max_steps: 4,
    gradient_accumulation_steps: 3,
    max_grad_norm: 0.5,
    ...settings,
  })
}

async function trainOn(family: MpiFamily, ranks: number, config: string, args: string[] = []) {
  const { wrap, env } = mpirun(family)
  return lowrank(['train', config, '--json', ...args], { wrap: wrap(ranks), env: { ...env, ...ALONE } })
}

const trainAlone = (config: string, args: string[] = []) =>
  lowrank(['train', config, '--json', ...args], { env: ALONE })

const lora = { name: 'lora', r: 4, lora_alpha: 8, lora_dropout: 0.1 }

const CASES: [ranks: number, family: MpiFamily, model: string, settings: Record<string, unknown>][] = [
  [
    2,
    'Open MPI',
    'smollm3',
    { strategy: { name: 'qlora', adapter: lora }, eval_dataset: 'dev.jsonl', eval_steps: 2 },
  ],
  [3, 'MPICH', 'smollm3', { strategy: { name: 'dora', r: 4 }, gradient_checkpointing: false }],
  [4, 'MPICH', 'olmo3', { strategy: { name: 'dylora', r: 4 }, precision: 'bf16' }],
  [
    3,
    'MPICH',
    'gemma3',
    { strategy: { name: 'lora-plus', adapter: lora }, neftune_noise_alpha: 5, optimizer: 'adafactor' },
  ],
  [
    2,
    'MPICH',
    'smollm2',
    { strategy: { ...lora, name: 'lora-fa' }, gradient_accumulation_steps: 1, optimizer: 'adamw_8bit' },
  ],
  [2, 'MPICH', 'smollm3', { strategy: { name: 'vera', r: 16 }, activation_offloading: true }],
  [4, 'MPICH', 'qwen3_5', { strategy: { name: 'lora', r: 4 } }],
  [
    2,
    'MPICH',
    'smollm3',
    { strategy: { name: 'lora', r: 4, init_lora_weights: 'pissa', modules_to_save: ['norm'] } },
  ],
]

test.each(CASES)(
  '%i ranks of %s have the bits of one process: %s, %o',
  async (ranks, family, model, settings) => {
    const { config, at } = layered(settings, model)
    const together = await trainOn(family, ranks, config, set('output_dir', at('together')))
    expect(together).toMatchObject({ code: 0 })
    const alone = await trainAlone(config, set('output_dir', at('alone')))
    expect(alone).toMatchObject({ code: 0 })
    const [many, one] = [together, alone].map(({ stdout }) => parseEvents(stdout)) as [[], []]
    expect(numbersOf(many)).toHaveLength(4)
    expect(numbersOf(many)).toEqual(numbersOf(one))
    const losses = (events: []) => only(events, 'eval').map(({ loss, tokens }) => [loss, tokens])
    expect(losses(many)).toEqual(losses(one))
    expect(adapterOf(at('together')).equals(adapterOf(at('alone')))).toBe(true)
  },
  TIMEOUT,
)

test(
  'a checkpoint of two ranks goes on as one process and as three ranks, and one of one process as two',
  async () => {
    const { config, at } = layered({ strategy: lora, save_steps: 2 })
    const whole = await trainAlone(config, set('output_dir', at('whole')))
    const rest = numbersOf(parseEvents(whole.stdout)).slice(2)
    const two = await trainOn('MPICH', 2, config, set('output_dir', at('two')))
    expect(two).toMatchObject({ code: 0 })
    const state = (folder: string) => readFileSync(at(folder, 'checkpoint-2', 'training_state.safetensors'))
    expect(state('two').equals(state('whole'))).toBe(true)
    const on = [
      ...[await trainAlone(config, ['--resume', at('two', 'checkpoint-2'), ...set('output_dir', at('a'))])],
      ...[
        await trainOn('MPICH', 3, config, [
          '--resume',
          at('two', 'checkpoint-2'),
          ...set('output_dir', at('b')),
        ]),
      ],
      ...[
        await trainOn('MPICH', 2, config, [
          '--resume',
          at('whole', 'checkpoint-2'),
          ...set('output_dir', at('c')),
        ]),
      ],
    ]
    for (const { stdout } of on) expect(numbersOf(parseEvents(stdout))).toEqual(rest)
    for (const folder of ['a', 'b', 'c'])
      expect(adapterOf(at(folder)).equals(adapterOf(at('whole')))).toBe(true)
  },
  TIMEOUT,
)

test(
  'the best step is loaded by each rank, and saved whole',
  async () => {
    const { config, at } = layered({
      ...{ strategy: lora, eval_dataset: 'dev.jsonl', eval_steps: 1, save_steps: 1 },
      ...{ load_best_model_at_end: true, learning_rate: 0.01 },
    })
    // Tokens that no row of the training holds become less likely with every step, at every instruction-set level.
    const answer = { role: 'assistant', content: '漢字漢字' }
    writeFileSync(
      at('dev.jsonl'),
      `${JSON.stringify({ messages: [{ role: 'user', content: 'hi' }, answer] })}\n`.repeat(8),
    )
    const two = await trainOn('MPICH', 2, config, set('output_dir', at('two')))
    const one = await trainAlone(config, set('output_dir', at('one')))
    const [best] = only(parseEvents(one.stdout), 'done').map((done) => done.best)
    expect(best?.step).toBe(0)
    expect(only(parseEvents(two.stdout), 'done')[0]?.best).toEqual(best)
    expect(adapterOf(at('two')).equals(adapterOf(at('one')))).toBe(true)
    expect(adapterOf(at('one')).equals(adapterOf(at('one', 'checkpoint-4')))).toBe(false)
  },
  TIMEOUT,
)

test.each<[what: string, ranks: number, settings: Record<string, unknown>, message: RegExp]>([
  [
    'more ranks than layers',
    5,
    { strategy: lora },
    /5 ranks for the 4 layers of the model; start at most 4 ranks/,
  ],
  [
    'a budget over all layers',
    2,
    { strategy: { name: 'adalora' } },
    /strategy adalora does not go with split: layers/,
  ],
  ['full fine-tuning', 2, { strategy: { name: 'full' } }, /strategy full does not go with split: layers/],
  [
    'layers without an adapter',
    2,
    { strategy: { ...lora, layers_to_transform: [0] } },
    /nothing in the layers of rank 1/,
  ],
  [
    'a trained embedding that is also the head',
    2,
    { strategy: { ...lora, modules_to_save: ['embed_tokens'] } },
    /model\.embed_tokens\.weight is trained by layers on several ranks/,
  ],
  [
    'answers in evaluations',
    2,
    { strategy: lora, eval_dataset: 'dev.jsonl', eval_generate: 2 },
    /eval_generate does not go with split: layers/,
  ],
])(
  '%s: refused by name and once',
  async (_, ranks, settings, message) => {
    const { config, at } = layered(settings)
    const refused = await trainOn('MPICH', ranks, config)
    expect(refused.code).not.toBe(0)
    expect(refused.stderr.match(/error: /g)).toHaveLength(1)
    expect(refused.stderr).toMatch(message)
    expect(existsSync(at('out', 'adapter_model.safetensors'))).toBe(false)
  },
  TIMEOUT,
)

test(
  'a step that diverges ends all ranks, by one message and with a checkpoint of the step before',
  async () => {
    const { config, at } = layered({
      strategy: lora,
      learning_rate: 1e30,
      max_grad_norm: 0,
      lr_scheduler_type: 'constant',
    })
    const diverged = await trainOn('MPICH', 3, config)
    expect(diverged.code).not.toBe(0)
    const events = parseEvents(diverged.stdout)
    expect(events.at(-1)).toMatchObject({ event: 'error', code: 'DIVERGED' })
    expect(only(events, 'error')).toHaveLength(1)
    expect(existsSync(at('out', 'checkpoint-1', 'adapter_model.safetensors'))).toBe(true)
  },
  TIMEOUT,
)

test.each(['MPICH', 'Open MPI'] as const)(
  'a rank of %s that is killed ends the job',
  async (family) => {
    needs('SIGSTOP')
    const { config, at } = layered({ strategy: lora, max_steps: 100_000, num_train_epochs: 1, save_steps: 2 })
    const { wrap, env } = mpirun(family)
    const script = 'echo $$ > pid.$PMI_RANK$OMPI_COMM_WORLD_RANK; exec "$@"'
    let sent = 0
    const ended = await lowrank(['train', config], {
      wrap: (node, args) => wrap(3)('sh', ['-c', script, 'sh', node, ...args]),
      env: { ...env, ...ALONE, LOWRANK_MPI_TIMEOUT: '2' },
      cwd: at(),
      watch: (_, { stderr }) => {
        if (sent > 0 || !stderr.includes('saved')) return
        process.kill(Number(readFileSync(at('pid.1'), 'utf8')), 'SIGKILL')
        sent = performance.now()
      },
    })
    expect(ended.code).not.toBe(0)
    expect(performance.now() - sent).toBeLessThan(30_000)
    expect(await lowrank(['inspect', at('out', 'checkpoint-2'), '--json'])).toMatchObject({ code: 0 })
  },
  TIMEOUT,
)

test(
  'eval on ranks refuses to read the whole model on each',
  async () => {
    const { config } = layered({ strategy: lora, eval_dataset: 'dev.jsonl' })
    const { wrap, env } = mpirun('MPICH')
    const refused = await lowrank(['eval', config], { wrap: wrap(2), env: { ...env, ...ALONE } })
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toMatch(/lowrank eval on several ranks needs the whole model on each/)
  },
  TIMEOUT,
)
