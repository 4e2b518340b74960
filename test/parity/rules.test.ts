/**
 * Sensitivity of the parity tests: with one rule of a case left out or changed, the run must end a hundred tolerances
 * away from where the peer's ended.
 */
import { afterAll, expect, it, vi } from 'vitest'
import type { TrainOptions } from '../../lib/index.js'
import type { Adapter } from '../../lib/model/adapter.js'
import { swept } from '../sweep.js'
import { attached, disposeModels, errorsOf, readCases, type StrategyCase, TOLERANCE, train } from './runs.js'

/** A changed rule of a case. */
interface Rule {
  name: string
  options?: Partial<TrainOptions>
  strategy?: Record<string, unknown>
  groups?: Partial<Group>
}

type Group = Adapter['state']['description']['groups'][number]

vi.mock('../../lib/train/rows/data.js', async (original) =>
  (await import('../tokenized-once.js')).tokenizedOnce(await original()),
)

afterAll(disposeModels)

/** Cases whose gradients are never clipped. */
const isClipped = ({ grad_norms, optimizer }: StrategyCase) =>
  grad_norms.some((norm) => norm > optimizer.max_grad_norm)

const common: Rule[] = [
  { name: 'without decay', options: { weightDecay: 0 } },
  { name: 'without a schedule', options: { lrSchedulerType: 'constant', warmupSteps: 0 } },
]
const unclipped: Rule = { name: 'without clipping', options: { maxGradNorm: 0 } }
const oneRate: Rule = { name: 'at one rate', groups: { learningRateFactor: 1 } }
const allDecay: Rule = { name: 'with decay of everything', groups: { decays: true } }

const strategy = (changed: Record<string, unknown>): Rule => ({
  name: `with ${JSON.stringify(changed)}`,
  strategy: changed,
})

const own: Record<string, Rule[]> = {
  lora_fa: [
    strategy({ project_gradient: false }),
    strategy({ use_rslora: false }),
    strategy({ lora_alpha: 9 }),
  ],
  lora_plus: [oneRate, strategy({ loraplus_lr_ratio: 15 })],
  dylora_last: [strategy({ trained_ranks: 'active' }), strategy({ rank_distribution: [0, 1, 1, 1] })],
  dylora_active: [strategy({ trained_ranks: 'last' }), strategy({ use_rslora: false })],
  dylora_dense: [strategy({ masked_update: true })],
  dylora_frozen: [strategy({ freeze_a: false }), strategy({ rank_distribution: [1, 1, 1, 0] })],
  delta_lora_at_once: [strategy({ start_step: 0 }), strategy({ lambda: 4 })],
  delta_lora_next: [strategy({ start_step: -1 }), strategy({ lambda: 2 }), strategy({ use_rslora: false })],
  delta_lora_later: [strategy({ start_step: 1 }), strategy({ start_step: 3 })],
  lora_embedding: [strategy({ lora_alpha: 9 })],
  lora_embedding_tied: [strategy({ use_rslora: false })],
  lora_modules: [allDecay],
  lora_bias_all: [allDecay],
  lora_bias_adapted: [allDecay],
  adalora: [
    ...[{ target_r: 2 }, { tinit: 2 }, { tfinal: 3 }, { delta_t: 1 }].map(strategy),
    ...[{ orth_reg_weight: 0.2 }, { beta1: 0.5 }, { beta2: 0.5 }].map(strategy),
  ],
  adalora_long: [
    ...[{ target_r: 2 }, { tinit: 4 }, { tfinal: 7 }, { delta_t: 2 }].map(strategy),
    ...[{ orth_reg_weight: 0.2 }, { beta1: 0.5 }, { beta2: 0.5 }].map(strategy),
  ],
  loha: [strategy({ alpha: 5 }), strategy({ alpha_pattern: {} })],
  loha_high: [strategy({ alpha: 7 })],
  dora: [allDecay],
  dora_frozen: [allDecay, strategy({ freeze_a: false })],
  dora_modules: [allDecay],
  dora_patterns: [allDecay, strategy({ use_rslora: false })],
  lokr: [strategy({ alpha: 5 }), strategy({ alpha_pattern: {} })],
  lokr_both: [strategy({ alpha: 3 })],
  lokr_unsorted: [strategy({ alpha: 3 })],
  pissa: [strategy({ init_lora_weights: true })],
  olora: [strategy({ init_lora_weights: true })],
}

const rules = readCases('strategies').flatMap((c) =>
  [...common, ...(isClipped(c) ? [unclipped] : []), ...(own[c.name] ?? [])].map(
    (rule): [string, StrategyCase, Rule] => [`${c.name} ${rule.name}`, c, rule],
  ),
)

it.each(swept(rules, 30))('%s', async (_, c, { options, strategy: changed, groups }) => {
  const { golden, adapter, saved } = await attached({ ...c, strategy: { ...c.strategy, ...changed } })
  if (groups)
    adapter.state.description = {
      ...adapter.state.description,
      groups: adapter.state.description.groups.map((group) => ({ ...group, ...groups })),
    }
  await train(adapter, c, options)
  const farthest = Math.max(...errorsOf(adapter, saved, golden).values())
  expect(farthest).toBeGreaterThan(100 * TOLERANCE)
  await adapter.detach()
})
