/**
 * Which strategy works best on your data: the held-out loss of each, and whether it differs from LoRA's.
 *
 *   node examples/compare.mjs run.yaml compared lora,dora,vera
 *
 * It takes a while, and may be stopped: the same call goes on where it was.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { compare, loadConfig } from 'lowrank'

const [path, outputDir, strategies = 'lora,dora,vera'] = process.argv.slice(2)
if (!path || !outputDir) {
  console.error('usage: node examples/compare.mjs CONFIG OUTPUT_DIR [STRATEGIES]')
  process.exit(2)
}

const { statistics, entries } = await compare(await loadConfig(path), {
  strategies: strategies.split(','),
  outputDir,
  resume: existsSync(join(outputDir, 'results.json')),
  controls: false,
  testRows: 8,
  onEvent: (event) => {
    if (event.event === 'cell') console.log(`trained ${event.id}`)
  },
})
for (const { name, mean } of statistics.loss.means) {
  const { searches } = entries.find((entry) => entry.name === name)
  const rates = searches.map(({ chosen }) => chosen).join(', ')
  const against = statistics.loss.against.find((one) => one.name === name)
  const told = against === undefined ? '' : `, to lora: ${against.verdict}, p ${against.p_holm.toFixed(3)}`
  console.log(`${name}: loss ${mean.toFixed(4)} at ${rates}${told}`)
}
