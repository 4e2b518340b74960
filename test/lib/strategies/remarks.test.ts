import { expect, test } from 'vitest'
import { describeAdapter } from '../../../lib/strategies/describe.js'
import { loha } from '../../../lib/strategies/loha.js'
import { lora } from '../../../lib/strategies/lora.js'
import { loraDrop } from '../../../lib/strategies/lora-drop.js'
import { qlora } from '../../../lib/strategies/qlora.js'
import { remarksOn } from '../../../lib/strategies/remarks.js'
import type { StrategyConfig } from '../../../lib/strategies/strategy.js'
import { vera } from '../../../lib/strategies/vera.js'
import { sites } from './sites.js'

const remarks = (strategy: StrategyConfig) => remarksOn(describeAdapter(strategy, sites), sites)
const smallest = Math.min(...sites.flatMap((site) => [site.in, site.out]))

test('a rank larger than a side of a linear is remarked on once, and shared or paired factors are not', () => {
  expect(remarks(lora({ r: smallest }))).toEqual([])
  const found = remarks(qlora({ adapter: lora({ r: smallest + 1 }) }))
  expect(found).toHaveLength(1)
  expect(found[0]).toMatch(
    new RegExp(
      `^rank ${smallest + 1} exceeds a dimension of model\\.layers\\.0\\..* \\[\\d+, \\d+\\] \\(and \\d+ more\\); rank ${smallest} can represent any matrix there$`,
    ),
  )
  expect(remarks(vera({ r: 256 }))).toEqual([])
  expect(remarks(loha({ r: smallest }))).toEqual([])
})

test('a threshold that keeps everything is remarked on', () => {
  const keep = sites.map((site) => site.path)
  expect(remarks(loraDrop({ threshold: 1, keep }))).toEqual([
    'threshold 1 keeps every linear, which is plain LoRA after a probe',
  ])
  expect(remarks(loraDrop({ keep }))).toEqual([])
})

test('a pattern that matches no adapted linear is refused, also in what another strategy wraps', () => {
  const adapter = lora({ targetModules: ['q_proj', 'v_proj'], rankPattern: { k_proj: 4 } })
  for (const strategy of [adapter, qlora({ adapter })])
    expect(() => describeAdapter(strategy, sites)).toThrow(
      'rank_pattern: "k_proj" matches no adapted linear. Their names end in: q_proj, v_proj.',
    )
  expect(() => describeAdapter(adapter, sites, { strict: false })).not.toThrow()
})
