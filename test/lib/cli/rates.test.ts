/** A run that is given no learning rate or optimizer, as the command line tells of it. */

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { project } from '../../e2e/project.js'
import { sweepTest } from '../../sweep.js'
import { lowrank, printed } from './lowrank.js'

/** A machine on which 4 MiB are left. */
const short = {
  env: { NODE_OPTIONS: '--import=data:text/javascript,process.availableMemory=()=>4194304' },
}
const few = { max_steps: 1, warmup_ratio: 0 }
const wide = { name: 'lora', r: 128, lora_alpha: 128 }

test('strategies are listed with their learning rates', async () => {
  const [list = []] = printed<'strategies'>(await lowrank(['strategies', '--json']))
  const { stdout } = await lowrank(['strategies'])
  for (const { name, learning_rate } of list)
    expect(stdout).toMatch(new RegExp(`^${name} +.* ${String(learning_rate).replace('.', '\\.')} `, 'm'))
})

sweepTest('the resolved config has the learning rate of the strategy, of which nothing is said', async () => {
  const it = project({ ...few, learning_rate: null, strategy: { name: 'vera' } })
  const { code, stderr } = await lowrank(['train', it.config])
  expect(code).toBe(0)
  expect(stderr).not.toContain('note: learning_rate')
  const [list = []] = printed<'strategies'>(await lowrank(['strategies', '--json']))
  const own = list.find(({ name }) => name === 'vera')?.learning_rate
  expect(parse(readFileSync(it.at('out', 'config.yaml'), 'utf8')).learning_rate).toBe(own)
})

sweepTest('a learning rate far from it is remarked on', async () => {
  const it = project({ ...few, learning_rate: 2e-6, strategy: { name: 'lora' } })
  const { code, stderr } = await lowrank(['train', it.config])
  expect(code).toBe(0)
  expect(stderr).toMatch(
    /^note: learning_rate 0\.000002 is \d+ times less than [\d.]+, the default of lora; a short run may learn next to nothing\.$/m,
  )
})

sweepTest('qlora pages the state of a run that does not fit, and says so', async () => {
  const it = project({ ...few, strategy: { name: 'qlora', adapter: wide } })
  const paged = await lowrank(['train', it.config], short)
  expect(paged.code).toBe(0)
  expect(paged.stderr).toMatch(
    /^note: qlora pages the optimizer state, which does not fit in memory: paged_adamw with \d+MiB in memory/m,
  )
  expect(parse(readFileSync(it.at('out', 'config.yaml'), 'utf8')).optimizer).toMatchObject({
    type: 'paged_adamw',
  })
  const plan = await lowrank(['plan', it.config], short)
  expect(plan.stdout).toMatch(
    /^A run on this machine pages the optimizer state \(paged_adamw with \d+MiB in memory\), with a peak of /m,
  )
  const named = await lowrank(['plan', it.config, '--set', 'optimizer=adamw'], short)
  expect(named.stdout).toContain('This machine has only')
  expect(named.stdout).not.toContain('pages')
})
