import { expect, test } from 'vitest'
import { freest } from '../../../../lib/report/chart/free-place.js'
import { lineChart } from '../../../../lib/report/chart/index.js'

const box = (left: number, top: number) => ({ left, right: left + 10, top, bottom: top + 10 })

test('the first box that no line passes is taken, else the one that the fewest pass', () => {
  const rising = [
    [0, 0],
    [100, 100],
  ] as const
  const level = [
    [0, 5],
    [100, 5],
  ] as const
  expect(freest([box(0, 0), box(40, 45), box(40, 0)], [rising])).toEqual(box(40, 0))
  expect(freest([box(0, 0), box(40, 0)], [rising, level])).toEqual(box(40, 0))
  // A line that ends before the box, or passes its corner outside.
  expect(freest([box(101, 101)], [rising])).toEqual(box(101, 101))
  expect(freest([box(20, 0), box(60, 0)], [rising])).toEqual(box(20, 0))
  expect(freest([], [rising])).toBeUndefined()
})

interface Label {
  x: number
  y: number
  width: number
}

test('the name of a level or of a moment moves to where no line passes', () => {
  const x = Array.from({ length: 41 }, (_, index) => index)
  const nameAt = (y: number[], level: number): Label => {
    const { svg } = lineChart({
      ...{ title: 'Norm', width: 400, height: 160, yDomain: [0, 10] },
      lines: [{ x, y, hue: 0 }],
      levels: [{ value: level, name: 'clipped above 5' }],
    })
    const [, at, up] = /<text x="([\d.]+)" y="([\d.]+)" class="halo">clipped above 5/.exec(svg) ?? []
    return { x: Number(at), y: Number(up), width: 6.9 * 15 }
  }
  const free = nameAt(
    x.map(() => 1),
    5,
  )
  // The line passes at the right end, just above the level.
  const moved = nameAt(
    x.map((step) => (step > 25 ? 5.7 : 1)),
    5,
  )
  expect(moved).not.toEqual(free)
  expect(moved.x + moved.width < 42 + (26 / 40) * 348 || moved.y > free.y).toBe(true)
})
