// How often compare claims a difference where there is none, and finds one where there is, in simulated compares.
//
//   npm run build && node benchmarks/claims.mjs [--compares 2000] [--json]
//
// Nothing is trained. `--json > benchmarks/results/claims.json` records the tables of docs/compare.md.
import { parseArgs } from 'node:util'
import { laboratory } from './laboratory/load.mjs'

const { values: options } = parseArgs({
  options: { compares: { type: 'string', default: '2000' }, json: { type: 'boolean', default: false } },
})
const compares = Number(options.compares)
if (!Number.isInteger(compares) || compares < 1)
  throw new Error(`--compares is ${options.compares}; expected an integer from 1.`)

const { claimsOf, equalityOf, nullKinds, powerOf, ruleOf } = await laboratory('null-compares')

const note = (text) => options.json || console.log(text)
const percent = (share) => `${(100 * share).toFixed(1)} %`

const kinds = nullKinds.map((kind) => {
  const { name, strategies, seeds, rows, remark = null } = kind
  const claims = claimsOf(kind, compares)
  note(
    `${name}, ${strategies} × ${seeds} × ${rows}: to the reference ${percent(claims.against)}, other pairs ${percent(claims.pairs)}, unstable ${percent(claims.unstable)}, left the pool ${percent(claims.left)}`,
  )
  return { name, strategies, seeds, rows, rule: ruleOf(kind), remark, ...claims }
})
const equality = [4, 8, 12].map((seeds) => {
  const found = equalityOf(5, seeds, compares)
  note(`equality, 5 × ${seeds}: wrong ${percent(found.wrong)}, right ${percent(found.right)}`)
  return found
})
const power = [4, 13].flatMap((strategies) =>
  [3, 5, 8, 10, 12].map((seeds) => {
    const found = powerOf(strategies, seeds, 2, compares)
    note(`two spreads, ${strategies} × ${seeds}: found ${percent(found)}`)
    return { strategies, seeds, found }
  }),
)
if (options.json)
  console.log(
    JSON.stringify(
      { command: `node benchmarks/claims.mjs --compares ${compares}`, compares, kinds, equality, power },
      null,
      2,
    ),
  )
