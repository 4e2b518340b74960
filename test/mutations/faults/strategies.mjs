import { fault } from './fault.mjs'

const strategy = (name, find, replace, what, more = {}) => ({
  ...fault(`lib/strategies/${name}.ts`, `test/lib/strategies/${name}.test.ts`, find, replace, what),
  ...more,
})

export const strategies = [
  strategy(
    'lora',
    'alpha / Math.sqrt(rank) : alpha / rank',
    'alpha / rank : alpha / rank',
    'rank-stabilized scale is alpha / r',
  ),
  strategy(
    'lora',
    'alpha / Math.sqrt(rank) : alpha / rank',
    'alpha / Math.sqrt(rank) : alpha',
    'scale is alpha',
  ),
  strategy(
    'lora',
    "{ kind: 'uniform', bound: 1 / Math.sqrt(site.in) }",
    "{ kind: 'uniform', bound: 1 / site.in }",
    "A's bound is 1 / in",
  ),
  strategy('lora', 'role,\n    tensor', "role: 'a' as const,\n    tensor", 'B has the role of A', {
    tests: ['test/lib/strategies/lora-plus.test.ts'],
  }),
  strategy('patterns', 'ranks.find((entry)', 'ranks.findLast((entry)', 'the last rank pattern counts', {
    tests: ['test/lib/strategies/lora.test.ts'],
  }),
  strategy(
    'trained',
    'learningRateFactor: 1, decays: false }',
    'learningRateFactor: 1 }',
    'norms and biases decay',
    { tests: ['test/lib/strategies/trained.test.ts'] },
  ),
  strategy(
    'lora-plus',
    'group.learningRateFactor * config.loraplusLrRatio',
    'group.learningRateFactor',
    'B trains as fast as A',
  ),
  strategy('lora-plus', "factor.role === 'b' ?", "factor.role === 'a' ?", 'A is the fast factor'),
  strategy('lora-fa', '{ ...factor, trained: false }', '{ ...factor, trained: true }', 'A trains'),
  strategy(
    'lora-fa',
    'withFrozenA(answer, config.projectGradient)',
    'withFrozenA(answer, false)',
    'gradients of B are not projected',
  ),
  strategy('dora', 'learningRateFactor: 1, decays: false }', 'learningRateFactor: 1 }', 'magnitudes decay'),
  strategy('dora', "{ kind: 'row_norms' }", "{ kind: 'constant', value: 1 }", 'magnitudes start at 1'),
  strategy('delta-lora', 'step > startStep', 'step >= startStep', 'the weight moves a step early'),
  strategy(
    'delta-lora',
    "native.write(snapshotB as string, 'value', native.read(b, 'value'))",
    '',
    'the snapshot has no B',
  ),
  strategy(
    'dylora',
    "counterUniform(seed, 'dylora', step)",
    "counterUniform(seed, 'dylora', 1)",
    'every step draws the same rank',
  ),
  strategy(
    'dylora',
    "counterUniform(seed, 'dylora', step)",
    "counterUniform(0, 'dylora', step)",
    'ranks ignore the seed',
  ),
  strategy('dylora', 'draw(counted + 1) - 1', 'draw(counted + 2) - 1', 'draws are counted a step early'),
  strategy('dylora', "trainedRanks === 'last'", "trainedRanks === 'active'", 'ranks that train are swapped'),
  strategy(
    'dylora',
    'rankPower: config.useRslora ? 0.5 : 1',
    'rankPower: config.useRslora ? 1 : 0.5',
    'powers of the rank in the scale are swapped',
  ),
  strategy('adalora', ') / decline, 3)', ') / decline, 2)', 'the budget falls by the square'),
  strategy('adalora', 'score > threshold ? 1 : 0', 'score >= threshold ? 1 : 0', 'tied triplets stay'),
  strategy(
    'adalora',
    't + 1 >= totalSteps - tfinal',
    't >= totalSteps - tfinal',
    'ranks are chosen a step late',
  ),
  strategy(
    'adalora',
    'description.targets.length * config.targetR',
    'config.targetR',
    'the budget is that of one linear',
  ),
  strategy(
    'adalora',
    'config.orthRegWeight / (2 * modules)',
    'config.orthRegWeight',
    'the regularizer is a sum, not a mean',
  ),
  strategy(
    'vera',
    'factor(SHARED_B, tallest, r, r * widest)',
    'factor(SHARED_B, tallest, r, 0)',
    'B repeats the numbers of A',
  ),
  strategy('vera', 'seed, skip }', 'seed: 0, skip }', 'the shared pair ignores its key'),
  strategy('vera', 'vector(d, config.r, config.dInitial)', 'vector(d, config.r, 1)', 'd starts at 1'),
  strategy(
    'miss',
    '(i % r) * cols + i',
    'Math.min(Math.floor(i / r), r - 1) * cols + i',
    'blocks are not summed but each on its own',
  ),
  strategy('loha', 'scale: alpha / rank,', 'scale: alpha / (rank * rank),', 'scale is alpha / r squared'),
  strategy(
    'loha',
    'uniform(rank), init ? zeros',
    'uniform(rank), init ? uniform(site.in)',
    'it does not start at zero',
  ),
  strategy('lokr', 'scale: alpha / rank,', 'scale: alpha,', 'scale is alpha'),
  strategy(
    'lokr',
    'rank < Math.max(rows, cols) / 2',
    'rank <= Math.max(rows, cols) / 2',
    'a side is factored at half its dimension',
  ),
  strategy(
    'lora-drop',
    '(sums[j] as number) - (sums[i] as number)',
    '(sums[i] as number) - (sums[j] as number)',
    'the least important linears stay',
  ),
  strategy(
    'lora-drop',
    'share >= threshold - 1e-12',
    'share >= threshold / 2',
    'half of the threshold is enough',
  ),
  strategy(
    'lora-drop',
    'const kindOf = (site: LinearSite): string =>',
    'const kindOf = (site: LinearSite): string => lastName(site.path) ||',
    'linears of other shapes share a pair',
  ),
]
