/** Graders in JSON files as rewards of a config. */
import { expect, test } from 'vitest'
import { withGraders } from '../../../lib/cli/rewards.js'
import { scratchFile } from '../scratch.js'

const grader = JSON.stringify({
  type: 'string_check',
  name: 'same',
  operation: 'eq',
  input: '{{sample.output_text}}',
  reference: '{{item.answer}}',
})

test('each of several graders has the name of its file', async () => {
  const [exact, other] = [scratchFile('exact.json', grader), scratchFile('other.json', grader)]
  const nameOf = (one: unknown) => (one as { name: string }).name
  const several = (await withGraders([exact, other])) as unknown[]
  expect(several.map(nameOf)).toEqual(['exact', 'other'])
  const [alone] = (await withGraders(exact)) as [(of: object) => number]
  expect(nameOf(alone)).toBe('reward')
  expect(alone({ prediction: 'Rome', item: { answer: 'Rome' } })).toBe(1)
})

test('modules stay as they are, and none is null', async () => {
  expect(await withGraders('./rewards.mjs')).toEqual(['./rewards.mjs'])
  expect(await withGraders(null)).toBeNull()
})
