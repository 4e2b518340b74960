/** Singular values of small matrices. */

/**
 * Singular values of a row-major matrix in descending order: square roots of the eigenvalues of its smaller Gram
 * matrix, so values below 1e-8 of the largest are noise.
 */
export function singularValues(matrix: ArrayLike<number>, rows: number, cols: number): number[] {
  const wide = rows <= cols
  const [n, length] = wide ? [rows, cols] : [cols, rows]
  // The n vectors whose inner products are needed, each stored contiguously.
  const vectors = Float64Array.from({ length: n * length }, (_, at) => {
    const [i, k] = [Math.floor(at / length), at % length]
    return matrix[wide ? i * cols + k : k * cols + i] as number
  })
  const gram = Array.from({ length: n }, () => new Float64Array(n))
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      const sum = dot(vectors, i * length, j * length, length)
      ;(gram[i] as Float64Array)[j] = sum
      ;(gram[j] as Float64Array)[i] = sum
    }
  return eigenvalues(gram)
    .map((value) => Math.sqrt(Math.max(0, value)))
    .sort((a, b) => b - a)
}

function dot(values: Float64Array, first: number, second: number, length: number): number {
  let sum = 0
  for (let k = 0; k < length; k++) sum += (values[first + k] as number) * (values[second + k] as number)
  return sum
}

/** Eigenvalues of a symmetric matrix, which is overwritten: Householder tridiagonalization, then Sturm counts. */
function eigenvalues(matrix: Float64Array[]): number[] {
  const n = matrix.length
  for (let k = 0; k < n - 2; k++) {
    const row = matrix[k] as Float64Array
    let norm = 0
    for (let i = k + 1; i < n; i++) norm += (row[i] as number) ** 2
    norm = Math.sqrt(norm)
    if (norm === 0) continue
    // v reflects the rest of the row onto its first element.
    const v = row.slice(k + 1)
    v[0] = (v[0] as number) + ((v[0] as number) >= 0 ? norm : -norm)
    const square = v.reduce((sum, value) => sum + value * value, 0)
    const w = new Float64Array(v.length)
    for (let i = 0; i < v.length; i++) {
      const own = matrix[k + 1 + i] as Float64Array
      let sum = 0
      for (let j = 0; j < v.length; j++) sum += (own[k + 1 + j] as number) * (v[j] as number)
      w[i] = (2 * sum) / square
    }
    const along = w.reduce((sum, value, i) => sum + value * (v[i] as number), 0) / square
    for (let i = 0; i < v.length; i++) w[i] = (w[i] as number) - along * (v[i] as number)
    for (let i = 0; i < v.length; i++) {
      const own = matrix[k + 1 + i] as Float64Array
      for (let j = 0; j < v.length; j++)
        own[k + 1 + j] =
          (own[k + 1 + j] as number) -
          (v[i] as number) * (w[j] as number) -
          (w[i] as number) * (v[j] as number)
    }
    row[k + 1] = (v[0] as number) > 0 ? -norm : norm
  }
  const diagonal = matrix.map((row, i) => row[i] as number)
  const beside = matrix.slice(0, -1).map((row, i) => row[i + 1] as number)
  const bound = Math.max(
    ...diagonal.map((value, i) => Math.abs(value) + Math.abs(beside[i - 1] ?? 0) + Math.abs(beside[i] ?? 0)),
  )
  return diagonal.map((_, index) => bisected(diagonal, beside, index, bound))
}

/** Bisects for the eigenvalue of a tridiagonal matrix at a given index. */
function bisected(
  diagonal: readonly number[],
  beside: readonly number[],
  index: number,
  bound: number,
): number {
  let low = -bound
  let high = bound
  for (let round = 0; round < 60 && high - low > 1e-17 * bound; round++) {
    const middle = (low + high) / 2
    if (countBelow(diagonal, beside, middle) > index) high = middle
    else low = middle
  }
  return (low + high) / 2
}

/** Number of eigenvalues below x: negative pivots of the matrix minus x. */
function countBelow(diagonal: readonly number[], beside: readonly number[], x: number): number {
  let count = 0
  let pivot = 1
  for (const [i, value] of diagonal.entries()) {
    const off = i === 0 ? 0 : (beside[i - 1] as number)
    pivot = value - x - (off * off) / pivot
    if (pivot === 0) pivot = 1e-300
    if (pivot < 0) count++
  }
  return count
}
