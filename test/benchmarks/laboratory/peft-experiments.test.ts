/** PEFT's experiments as entries of a compare, from files of our own in the same format. */
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { rankOf, readPeftTable } from '../../../benchmarks/laboratory/peft-experiments.js'
import { DEFAULTS, EXPERIMENTS, peftTable } from './peft-table.js'

describe('PEFT’s experiments', async () => {
  const folder = peftTable()
  const table = await readPeftTable(folder, { width: 96 })
  const named = (name: string) => table.covered.find(({ entry }) => entry.name === name)
  const reasonOf = (path: string) => table.uncovered.find((one) => one.path === path)?.reason

  test('are entries with the strategy and the settings of their files, LoRA of rank 32 as the reference', () => {
    expect(
      table.covered.map(({ entry }) => [entry.name, entry.strategy.name, rankOf(entry.strategy)]),
    ).toEqual([
      ['lora', 'lora', 'rank 32'],
      ['adalora-rank4', 'adalora', 'rank 4'],
      ['full-finetuning-lr_0.00001', 'full', ''],
      ['loha-rank4', 'loha', 'rank 4'],
      ['lora-rank4-dora', 'dora', 'rank 4'],
      ['lora-rank4-lorafa', 'lora-fa', 'rank 4'],
      ['lora-rank4-loraplus', 'lora-plus', 'rank 4'],
      ['lora-rank4-pissa', 'lora', 'rank 4'],
      ['lora-rank4-rslora', 'lora', 'rank 4'],
      ['oft-rank4', 'oft', 'blocks of 24'],
      ['vera-default', 'vera', 'rank 16'],
    ])
    expect(named('lora')?.entry.strategy).toMatchObject({ loraAlpha: 8, targetModules: ['q_proj', 'v_proj'] })
    expect(named('lora-rank4-dora')?.entry.strategy).toMatchObject({ targetModules: ['up_proj'] })
    expect(named('lora-rank4-rslora')?.entry.strategy).toMatchObject({ useRslora: true })
    expect(named('lora-rank4-pissa')?.entry.strategy).toMatchObject({ initLoraWeights: 'pissa' })
    expect(named('lora-rank4-loraplus')?.entry.strategy).toMatchObject({ loraplusLrRatio: 8 })
    expect(named('vera-default')?.rate).toBe(1e-3)
  })

  test('that cannot be carried over exactly say what differs', () => {
    expect(named('lora')?.differs).toEqual([])
    expect(named('adalora-rank4')?.differs).toEqual([
      'ranks are pruned after a tenth of the steps until three tenths before the end, there from step 10 until 20 before the end of 90',
    ])
    expect(named('vera-default')?.differs).toEqual(['weight decay is 0.01 there, and 0.2 here'])
    expect(named('lora-rank4-loraplus')?.differs).toEqual([
      'batch_size is 4 there, and 2 for all others',
      'weight decay is 0.01 there, and 0.2 here',
    ])
  })

  test('without a counterpart are named, with the reason', () => {
    expect(table.uncovered).toHaveLength(7)
    expect(reasonOf('ia3/tiny-1B-default')).toBe('peft_type is IA3, a method that is not here')
    expect(reasonOf('lora/tiny-1B-blocks')).toMatch(/^use_blocks is .*, which is not supported/)
    expect(reasonOf('lora/tiny-1B-rank4-kasa')).toBe(
      'kasa_config is set, which is another method than the LoRA here',
    )
    expect(reasonOf('lora/tiny-1B-rank4-other-start')).toBe(
      'init_lora_weights is "other", a start that lora does not have here',
    )
    expect(reasonOf('lora/tiny-1B-sgd-like')).toMatch(/^optimizer_type is "curved", which lora does not have/)
    expect(reasonOf('lost/tiny-1B-default')).toMatch(/adapter_config\.json/)
    expect(reasonOf('vera/tiny-1B-start')).toBe('init_weights is "other", which vera does not have here')
  })

  test('share the default settings of training', () => {
    expect(table.training).toEqual({
      ...{ per_device_train_batch_size: 2, max_seq_length: 64, weight_decay: 0.2, max_grad_norm: 1 },
      ...{ lr_scheduler_type: 'cosine', warmup_ratio: 0.1 },
    })
  })

  test('are also found in the folder of experiments itself; OFT needs the width of the model', async () => {
    const { uncovered } = await readPeftTable(join(folder, 'method_comparison', 'MetaMathQA', 'experiments'))
    expect(uncovered.find(({ path }) => path === 'oft/tiny-1B-rank4')?.reason).toBe(
      'r is 4, a number of blocks, whose size depends on the model; name one with --model',
    )
  })
})

describe('a folder with mistakes', () => {
  const LORA = 'lora/tiny-1B-rank32/adapter_config.json'

  test('without experiments, or without the shared settings, is refused', async () => {
    await expect(readPeftTable(peftTable({}))).rejects.toThrow(
      /^--peft .* has no experiments; expected a checkout/,
    )
    await expect(readPeftTable(peftTable(EXPERIMENTS, null))).rejects.toThrow(
      /experiments beside default_training_params\.json\.$/,
    )
  })

  test('with a shared setting that is no number is refused', async () => {
    const folder = peftTable(EXPERIMENTS, { ...DEFAULTS, batch_size: 'four' })
    await expect(readPeftTable(folder)).rejects.toThrow(
      'default_training_params.json: batch_size is "four", expected an integer from 1.',
    )
  })

  test('with a malformed file names that experiment alone', async () => {
    const files = { [LORA]: EXPERIMENTS[LORA], 'lora/tiny-1B-torn/adapter_config.json': '{"r": ' }
    const { covered, uncovered } = await readPeftTable(peftTable(files))
    expect(covered.map(({ path }) => path)).toEqual(['lora/tiny-1B-rank32'])
    expect(uncovered).toEqual([{ path: 'lora/tiny-1B-torn', reason: expect.stringContaining('JSON') }])
  })
})
