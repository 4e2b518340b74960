/**
 * torch's CPU generator: reproduces `torch.Generator().manual_seed(seed)` and `Tensor.uniform_` in float32, bit for
 * bit. Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) with scalar seeding; 24 bits per number.
 */
const N = 624
const M = 397

/** Unsigned 32-bit outputs of MT19937. */
export function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(N)
  state[0] = Number(BigInt.asUintN(32, BigInt(seed)))
  for (let i = 1; i < N; i++) {
    const previous = state[i - 1] as number
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i
  }
  let at = N
  const refill = () => {
    for (let i = 0; i < N; i++) {
      const mixed = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % N] as number) & 0x7fffffff)
      state[i] = (state[(i + M) % N] as number) ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0)
    }
    at = 0
  }
  return () => {
    if (at === N) refill()
    let word = state[at++] as number
    word ^= word >>> 11
    word ^= (word << 7) & 0x9d2c5680
    word ^= (word << 15) & 0xefc60000
    return (word ^ (word >>> 18)) >>> 0
  }
}

/**
 * The numbers of `tensor.uniform_(-bound, bound)` in row-major order.
 * @param skip numbers already drawn from the same generator for other tensors
 */
export function torchUniform(seed: number, count: number, bound: number, skip = 0): Float32Array {
  const next = mersenneTwister(seed)
  for (let i = 0; i < skip; i++) next()
  const low = Math.fround(-bound)
  const range = Math.fround(Math.fround(bound) - low)
  // torch uses a fused multiply-add; both operations are exact in double here, so the single rounding gives the same
  // result.
  return Float32Array.from({ length: count }, () => (next() & 0xffffff) * 2 ** -24 * range + low)
}
