/** `npm run figures`: fits figures into a time, and writes the page that shows them. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  LEVELS,
  levelFor,
  secondsAt,
  seedsAt,
  stepsAt,
  timeOf,
} from '../../../benchmarks/laboratory/budget.mjs'
import { withFigures } from '../../../benchmarks/laboratory/page.mjs'
import { scratchFolder } from '../../lib/scratch.js'

const figures = [{ seconds: 100, seeds: 3, steps: { flag: '--steps', count: 200 } }, { seconds: 50 }]

test('a slower machine has fewer seeds, then fewer steps, and no less than a quarter of them', () => {
  const at = (room: number) => levelFor(figures, { room, slowness: 2, jobs: 1 })
  expect(at(300)).toEqual({ seeds: 1, steps: 1 })
  expect(at(299)).toEqual({ seeds: 0.67, steps: 1 })
  expect(at(170)).toEqual({ seeds: 0.34, steps: 1 })
  expect(at(120)).toEqual({ seeds: 0.34, steps: 0.25 })
  expect(at(100)).toBeUndefined()
  for (const level of LEVELS.slice(1))
    expect(timeOf(figures, level, { slowness: 1, jobs: 1 })).toBeLessThan(150)
})

test('jobs side by side divide the time, except that of the longest figure', () => {
  const all = LEVELS[0] as (typeof LEVELS)[number]
  expect(timeOf(figures, all, { slowness: 1, jobs: 2 })).toBe(100)
  expect(timeOf([...figures, { seconds: 90 }], all, { slowness: 1, jobs: 2 })).toBe(120)
})

test('seeds and steps are those of the time', () => {
  const [figure] = figures as [
    (typeof figures)[0] & { seeds: number; steps: { flag: string; count: number } },
  ]
  const level = { seeds: 0.34, steps: 0.25 }
  expect([seedsAt(figure, level), stepsAt(figure, level)]).toEqual([1, 50])
  expect(secondsAt(figure, level)).toBeCloseTo(100 / 3 / 4, 10)
})

test('the page has a section for each figure that was made, with its command and what was cut', () => {
  const docs = scratchFolder()
  mkdirSync(join(docs, 'results'))
  const made = {
    ...{ title: 'Ranks', date: '2026-11-28', machine: 'a machine', seconds: 70, cut: '1 of 3 seeds' },
    command: 'node benchmarks/laboratory/figure.mjs adalora-ranks --seeds 1',
  }
  writeFileSync(join(docs, 'results', 'adalora-ranks.json'), JSON.stringify({ reading: 'It shows.', made }))
  const page = withFigures('# Results\n\n<!-- figures -->\n<!-- end of figures -->\n\nMore.\n', docs)
  for (const part of [
    '### Ranks\n',
    '![Ranks](images/adalora-ranks.svg)',
    'It shows.',
    'Cut to fit a time: 1 of 3 seeds. 2026-11-28, 1 min 10 s on one thread of a machine',
    '```sh\nnode benchmarks/laboratory/figure.mjs adalora-ranks --seeds 1\n```',
    '\nMore.\n',
  ])
    expect(page).toContain(part)
  expect(withFigures(page, docs)).toBe(page)
})

test('docs/results.md shows the results that are in docs/results', () => {
  const page = readFileSync('docs/results.md', 'utf8')
  expect(withFigures(page, 'docs')).toBe(page)
})
