import { expect, test } from 'vitest'
import type { StepSetting } from '../../../lib/planning/step-setting.js'
import { layOut, miniatures } from '../../../lib/time/setting.js'
import { settingOf } from './setting.js'

const sizeOf = ({ config, options }: StepSetting) => ({
  layers: config.num_hidden_layers,
  hidden: config.hidden_size,
  heads: config.num_attention_heads,
  vocabulary: config.vocab_size,
  batch: options.perDeviceTrainBatchSize,
  length: options.maxSeqLength,
})

function smaller(setting: StepSetting, budget: number) {
  const { work } = layOut(setting)
  return miniatures(setting, work, budget)?.map(sizeOf)
}

test('the work of a step is its products and its attention, again where they are recomputed', () => {
  const workOf = (gradientCheckpointing: boolean) =>
    layOut(settingOf('SmolLM2-135M', { perDeviceTrainBatchSize: 1, gradientCheckpointing })).work
  const [qkv, output, gateUp, down] = [576 * (576 + 2 * 192), 576 * 576, 2 * 576 * 1536, 576 * 1536]
  const pairs = (512 * 513) / 2
  // Forward, and the gradient at each input; below the first block nothing trains. Attention has two products, then five.
  const kept = 512 * (30 * 2 * (qkv + output + gateUp + down) - qkv) + 30 * 7 * pairs * 576
  expect(workOf(false)).toMatchObject({ tokens: 512, blocks: kept, head: 2 * 512 * 49_152 * 576 })
  // The last block is still there, and what the last linear of the others gave is not needed.
  const again = 29 * (512 * (qkv + output + gateUp) + 2 * pairs * 576)
  expect(workOf(true).blocks).toBe(kept + again)
})

test('miniatures have blocks of the very same shapes where there is time for them', () => {
  const same = { hidden: 576, heads: 9, batch: 4, length: 512 }
  expect(smaller(settingOf('SmolLM2-135M'), 100e9)).toEqual([
    { ...same, layers: 1, vocabulary: 1024 },
    { ...same, layers: 5, vocabulary: 1024 },
    { ...same, layers: 1, vocabulary: 43_409 },
  ])
})

test('where there is not, they have fewer sequences, then narrower blocks, then shorter sequences', () => {
  const few = smaller(settingOf('SmolLM2-135M'), 6e9)
  expect(few?.[0]).toMatchObject({ hidden: 576, batch: 1, length: 512 })
  const narrow = smaller(
    settingOf('Llama-3.1-70B', { perDeviceTrainBatchSize: 1, maxSeqLength: 2048 }),
    100e9,
  )
  expect(narrow?.[0]).toMatchObject({ hidden: 1024, heads: 8, batch: 1, length: 2048 })
  expect(smaller(settingOf('Llama-3.1-70B', { maxSeqLength: 8192 }), 1e9)?.[0]).toMatchObject({ length: 256 })
  expect(smaller(settingOf('Llama-3.1-70B', { maxSeqLength: 8192 }), 1e6)).toBeUndefined()
})

test('narrower blocks of LFM2 have a narrower MLP under either key of its width', () => {
  const setting = settingOf('LFM2-2.6B', { perDeviceTrainBatchSize: 1, maxSeqLength: 512 })
  const { intermediate_size, ...rest } = setting.config
  const widths = [setting, { ...setting, config: { ...rest, block_ff_dim: intermediate_size } }].map(
    (given) => {
      const [small] = miniatures(given, layOut(given).work, 5e9) as [StepSetting, StepSetting, StepSetting]
      expect(small.config.hidden_size).toBe(512)
      return layOut(small).graph.weights.find(({ name }) => name.endsWith('feed_forward.w2.weight'))?.cols
    },
  )
  expect(widths).toEqual([2816, 2816])
})

test('a model of one block is timed with more of the same', () => {
  const setting = settingOf('SmolLM2-135M')
  const config = { ...setting.config, num_hidden_layers: 1 }
  const asked: string[] = []
  const formatOf = (name: string) => {
    asked.push(name)
    return setting.formatOf(name)
  }
  const one = { ...setting, config, formatOf }
  const deep = miniatures(one, layOut(one).work, 100e9)?.[1] as StepSetting
  expect(layOut(deep).graph.layers).toBe(7)
  expect(asked.filter((name) => name.includes('.layers.') && !name.includes('.layers.0.'))).toEqual([])
})
