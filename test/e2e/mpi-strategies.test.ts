/** Every strategy on one to four ranks: the same bits twice, and the numbers of one process up to rounding. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { swept } from '../sweep.js'
import { numbersOf, parseEvents } from './events.js'
import { mpirun } from './mpi.js'
import { project } from './project.js'

const STRATEGIES = {
  lora: { name: 'lora', r: 4, lora_dropout: 0.1 },
  qlora: { name: 'qlora', adapter: { name: 'lora', r: 4, lora_dropout: 0.05 } },
  dora: { name: 'dora', r: 4 },
  adalora: { name: 'adalora', init_r: 6, target_r: 3, tinit: 1, tfinal: 2, delta_t: 1 },
  dylora: { name: 'dylora', r: 4 },
  'lora-drop': { name: 'lora-drop', r: 4 },
  full: { name: 'full' },
} as const

const CASES = Object.keys(STRATEGIES).flatMap((name) => [1, 2, 3, 4].map((ranks) => [name, ranks] as const))

test.each(swept(CASES, 4))(
  '%s on %i ranks',
  async (name, ranks) => {
    const { wrap, env } = mpirun('MPICH')
    const { config, at } = project({
      strategy: STRATEGIES[name as keyof typeof STRATEGIES],
      learning_rate: 1e-3,
      max_steps: 6,
      eval_dataset: 'dev.jsonl',
    })
    const threads = { LOWRANK_THREADS: '1' }
    const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]
    const together = (folder: string) =>
      lowrank(['train', config, '--json', ...set('output_dir', at(folder))], {
        wrap: wrap(ranks),
        env: { ...env, ...threads },
      })
    const [first, second] = [await together('first'), await together('second')]
    expect(first).toMatchObject({ code: 0 })
    const [one, two] = [first, second].map(({ stdout }) => numbersOf(parseEvents(stdout)))
    expect(two).toEqual(one)
    const file = name === 'full' ? 'model.safetensors' : 'adapter_model.safetensors'
    expect(readFileSync(at('second', file)).equals(readFileSync(at('first', file)))).toBe(true)

    const same = [...set('output_dir', at('alone')), ...set('gradient_accumulation_steps', ranks)]
    const alone = await lowrank(['train', config, '--json', ...same], { env: threads })
    const expected = numbersOf(parseEvents(alone.stdout))
    expect(one).toHaveLength(expected.length)
    for (const [i, { loss, grad_norm, tokens }] of expected.entries()) {
      expect(one?.[i]?.tokens).toBe(tokens)
      expect(Math.abs((one?.[i]?.loss as number) / (loss as number) - 1)).toBeLessThan(1e-4)
      expect(Math.abs((one?.[i]?.grad_norm as number) / (grad_norm as number) - 1)).toBeLessThan(1e-3)
    }
  },
  240_000,
)
