/** Prompts without answers, inspected and trained by rewards on the command line. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { project } from '../../e2e/project.js'
import { lowrank } from './lowrank.js'

const rows = (count: number) =>
  Array.from(
    { length: count },
    (_, i) => `${JSON.stringify({ messages: [{ role: 'user', content: `Say ${i}` }], letter: 'e' })}\n`,
  ).join('')

test('prompts have a reward, and no loss is told of them', async () => {
  const it = project({
    ...{
      dataset: 'prompts.jsonl',
      eval_dataset: 'held.jsonl',
      eval_steps: 1,
      metric_for_best_model: 'reward',
    },
    ...{ task: 'grpo', reward_functions: 'rewards.mjs', num_generations: 2, max_completion_length: 4 },
    ...{ max_steps: 2, max_seq_length: 64, strategy: { name: 'lora', r: 4 } },
  })
  writeFileSync(it.at('prompts.jsonl'), rows(8))
  writeFileSync(it.at('held.jsonl'), rows(2))
  writeFileSync(
    it.at('rewards.mjs'),
    'export const letter = ({ prediction, item }) => Number(prediction.includes(item.letter))\n',
  )
  const inspected = await lowrank(['inspect', it.config])
  expect(inspected.code, inspected.stderr).toBe(0)
  expect(inspected.stdout).toMatch(/^rows +8$/m)
  expect(inspected.stdout).toMatch(/^expected +0 tokens$/m)
  const alone = await lowrank(['inspect', it.at('prompts.jsonl'), '--model', it.model])
  expect(alone.stderr).toContain('task: grpo takes such a row as a prompt')

  const { code, stderr } = await lowrank(['train', it.config])
  expect(code, stderr).toBe(0)
  expect(stderr).toMatch(/^before training: reward \d\.\d+$/m)
  expect(stderr).toMatch(/^step 2: reward \d\.\d+$/m)
  expect(stderr).not.toContain('NaN')
  const card = readFileSync(it.at('out', 'README.md'), 'utf8')
  expect(card).toContain('| held-out rows | reward |\n')
  expect(card).not.toContain('NaN')
  const page = readFileSync(it.at('out', 'report.html'), 'utf8')
  expect(page).not.toMatch(/Held-out loss (?:fell|rose|went)/)
  const [table = ''] = /<summary>All evaluations as a table[\s\S]*?<\/table>/.exec(page) ?? []
  expect([...table.matchAll(/<th scope="col"[^>]*>([^<]+)/g)].map(([, name]) => name)).toEqual([
    'step',
    'reward',
  ])
})
