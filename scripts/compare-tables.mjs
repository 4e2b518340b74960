/** Tables of comparisons in docs/results.md and docs/compare.md, from recorded results. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { compareText } from '../dist/esm/cli/compare-table.js'
import { readResults } from '../dist/esm/compare/results-file.js'
import { table, withMarked } from './markdown.mjs'

const textOf = async (name) =>
  compareText(await readResults(fileURLToPath(new URL(`../docs/results/${name}.json`, import.meta.url))))

const fenced = (text) => `\`\`\`\n${text}\n\`\`\``

/** The page with the printed tables of both compares. */
export async function withCompares(page) {
  return withMarked(page, 'docs/results.md', {
    'compare of the demo': fenced(await textOf('compare-demo')),
    'compare of SmolLM2': fenced(await textOf('compare-smollm2')),
  })
}

/** The first lines of each table that compares losses. */
async function sample() {
  const [quality, against] = (await textOf('compare-demo')).split('\n\n')
  const first = (text) => text.split('\n').slice(0, 4).join('\n')
  return fenced(`${first(quality)}\n…\n\n${first(against)}\n…`)
}

const percent = (share) => `${(100 * share).toFixed(1)} %`

function claims({ kinds }) {
  const rows = kinds.map(({ name, strategies, seeds, rows, against, pairs, remark, unstable }) => [
    name,
    `${strategies} × ${seeds} × ${rows}`,
    ...[percent(against), percent(pairs)],
    remark === 'shared search'
      ? 'one search of the rate, always'
      : remark === 'unstable'
        ? `LoRA varies too much, in ${percent(unstable)}`
        : '',
  ])
  const head = ['', 'entries × seeds × rows', 'to LoRA', 'other pairs', 'remark that is printed']
  return table(head, rows)
}

function power({ power: found }) {
  const seeds = [...new Set(found.map((one) => one.seeds))]
  const rows = [...new Set(found.map(({ strategies }) => strategies))].map((strategies) => [
    `${strategies} entries`,
    ...seeds.map((count) =>
      percent(found.find((one) => one.strategies === strategies && one.seeds === count).found),
    ),
  ])
  return table(['', ...seeds.map((count) => `${count} seeds`)], rows)
}

/** The page with a sample of a compare, and with the simulated claims and power of `node benchmarks/claims.mjs`. */
export async function withClaims(page) {
  const found = JSON.parse(
    readFileSync(new URL('../benchmarks/results/claims.json', import.meta.url), 'utf8'),
  )
  const source = `<sup>\`${found.command}\`: ${found.compares} simulated compares of each kind.</sup>`
  return withMarked(page, 'docs/compare.md', {
    sample: await sample(),
    claims: `${claims(found)}\n\n${source}`,
    power: `${power(found)}\n\n${source}`,
  })
}
