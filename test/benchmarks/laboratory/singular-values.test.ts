import { expect, test } from 'vitest'
import { singularValues } from '../../../benchmarks/laboratory/singular-values.js'
import { counterUniforms } from '../../../lib/core/counter-random.js'

const drawn = (count: number, stream: string) => {
  const uniform = counterUniforms(1, stream)
  return Array.from({ length: count }, (_, i) => uniform(i) - 0.5)
}

test('of a product with a known rank, the others are nothing, whichever side is longer', () => {
  for (const [rows, cols] of [
    [9, 14],
    [14, 9],
    [9, 9],
  ] as const) {
    const [b, a] = [drawn(rows * 3, 'b'), drawn(3 * cols, 'a')]
    const product = Array.from({ length: rows * cols }, (_, at) =>
      [0, 1, 2].reduce(
        (sum, r) =>
          sum + (b[Math.floor(at / cols) * 3 + r] as number) * (a[r * cols + (at % cols)] as number),
        0,
      ),
    )
    const found = singularValues(product, rows, cols)
    expect(found.length).toBe(9)
    expect(found[2]).toBeGreaterThan(0.01)
    expect(found[3]).toBeLessThan(1e-6)
    const square = product.reduce((sum, value) => sum + value * value, 0)
    expect(found.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(square, 10)
  }
})

test('of a matrix that only stretches and turns, they are the factors', () => {
  const [c, s] = [Math.cos(0.7), Math.sin(0.7)]
  // A rotation of the first two of four places, times a diagonal.
  const matrix = [5 * c, -3 * s, 0, 0, 5 * s, 3 * c, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0.25]
  for (const [i, value] of singularValues(matrix, 4, 4).entries())
    expect(value).toBeCloseTo([5, 3, 2, 0.25][i] as number, 10)
})
