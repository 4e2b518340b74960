import { fault } from './fault.mjs'

const statistics = (name, find, replace, what, test = name) =>
  fault(
    `lib/compare/statistics/${name}.ts`,
    `test/lib/compare/statistics/${test}.test.ts`,
    find,
    replace,
    what,
  )

const runs = (find, replace, what) =>
  fault('lib/compare/runs.ts', 'test/lib/compare/runs.test.ts', find, replace, what)

export const compare = [
  statistics('holm', '(pValues.length - place) * p', 'p', 'p-values are not adjusted'),
  statistics(
    'index',
    'holm(found.map(({ p }) => p))',
    'found.map(({ p }) => p)',
    'differences are not adjusted',
  ),
  statistics('index', 'pEqual < SIGNIFICANT', 'pEqual < 1', 'all are equal within any margin'),
  statistics(
    'mixed',
    'Math.max(pool.variance + noisier, own)',
    '2 * pool.variance',
    'two strategies vary between seeds as all do',
  ),
  statistics(
    'mixed',
    'if (square < least) return',
    'if (square <= 0) return',
    'the sum of mean squares may be less than one of them',
  ),
  statistics('mixed', '0.975, found.df', '0.95, found.df', 'intervals are of 90 %'),
  statistics('beta', '1 / 192', '1 / 190', 'a coefficient of the gamma ratio is wrong', 'student'),
  statistics('mcnemar', '2 * Math.exp(', 'Math.exp(', 'the p-value is one-sided'),
  statistics('wilson', 'z2 / (4 * count * count)', '0', 'the interval is that of Wald around another center'),
  statistics('mixed', 'const PAIRED_SEEDS = 8', 'const PAIRED_SEEDS = 80', 'many seeds use the pool'),
  statistics(
    'bootstrap',
    'recount(itemCounts, ofItems, draw)',
    'recount(itemCounts, ofItems, 0)',
    'items are drawn once',
  ),
  statistics('power', '(2 * comparisons)', '2', 'the detectable difference is that of one comparison'),
  statistics('index', ': (worst[i] as number)', ': 0', 'items that diverged count as 0'),
  statistics('pool', 'const CHANCE = 1e-5', 'const CHANCE = 0', 'no strategy leaves the pool', 'index'),
  statistics(
    'pool',
    'squares / (rows.length - 1)',
    'squares / rows.length',
    'the center is no parameter',
    'mixed',
  ),
  runs(
    'asked && !isDeepStrictEqual(asked.rows.map(dataOf), rows.map(dataOf))',
    'false',
    'runs with other held-out rows are compared',
  ),
  fault(
    'lib/compare/load.ts',
    'test/lib/compare/load.test.ts',
    '1.25 * cores + 0.25',
    'cores',
    'a compare alone makes its machine busy',
  ),
  fault(
    'lib/compare/load.ts',
    'test/lib/compare/load.test.ts',
    'Math.max(before, after) > 1.25',
    'after > 1.25',
    'a machine that was busy at the beginning of a cell passes',
  ),
  fault(
    'lib/compare/verified.ts',
    'test/lib/compare/compare.test.ts',
    'hashes.get(id) === expected',
    'hashes.has(id)',
    'a record stands for a cell that has changed',
  ),
  runs('hit && !b[row]', 'hit', 'rows that both answer count for one alone'),
  runs('.size > 1,', '.size > 0,', 'all rows are flips'),
  runs(
    'if (!isModel) await model.loadAdapter',
    'if (isModel) await model.loadAdapter',
    'the base answers for each run',
  ),
]
