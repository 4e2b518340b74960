// Which of PEFT's published experiments of MetaMathQA have a counterpart here, as entries of a compare.
//
//   npm run build && node benchmarks/referee.mjs --peft FOLDER --list [--model MODEL]
//
// FOLDER is a checkout of huggingface/peft, or its folder method_comparison/MetaMathQA/experiments. Printed is which
// experiment is which entry, what differs, and which experiments are not covered and why. OFT needs --model, since its
// blocks are counted there.
import { parseArgs } from 'node:util'
import { openShape } from '../dist/esm/planning/plan.js'
import { laboratory } from './laboratory/load.mjs'

const { values: options } = parseArgs({
  options: {
    peft: { type: 'string' },
    model: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
})

const { rankOf, readPeftTable } = await laboratory('peft-experiments')

/** @throws {Error} naming the missing option */
function needed(name, what) {
  if (options[name] === undefined) throw new Error(`--${name} is missing; expected ${what}.`)
  return options[name]
}

async function listed(table) {
  for (const { path, entry, rate, differs } of table.covered) {
    const rank = rankOf(entry.strategy)
    console.log(
      `${entry.name}: ${path}, ${entry.strategy.name}${rank && ` of rank ${rank}`}, rate there ${rate}`,
    )
    for (const sentence of differs) console.log(`  differs: ${sentence}`)
  }
  console.log(`\nNot covered, ${table.uncovered.length} of ${table.covered.length + table.uncovered.length}:`)
  for (const { path, reason } of table.uncovered) console.log(`${path}: ${reason}`)
}

async function main() {
  const folder = needed('peft', 'a checkout of huggingface/peft')
  const width = options.model && Number((await openShape(options.model)).config.hidden_size)
  const table = await readPeftTable(folder, { width: width || undefined })
  if (options.list) return listed(table)
  throw new Error('--list is missing.')
}

try {
  await main()
} catch (error) {
  // Mistakes in what was given are one line, without a trace of the program.
  console.error(`error: ${error.message}`)
  process.exitCode = 1
}
