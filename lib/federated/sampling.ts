/** Selection of the participants of a round, by a secret key, since the guarantee assumes that nobody knows them. */
import { createCipheriv } from 'node:crypto'

/**
 * Members of a Poisson sample: each of 0 .. population - 1 with probability `rate`, independently; ascending. The same
 * (key, round) draws the same.
 * @param key 32 bytes
 */
export function drawCohort(key: Uint8Array, round: number, population: number, rate: number): number[] {
  // OpenSSL takes the block counter, then the nonce of RFC 8439; noise has nonces of its own.
  const counterAndNonce = Buffer.alloc(16)
  counterAndNonce.write('draw', 4, 'latin1')
  counterAndNonce.writeBigUInt64LE(BigInt(round), 8)
  const stream = createCipheriv('chacha20', key, counterAndNonce).update(Buffer.alloc(8 * population))
  const drawn: number[] = []
  for (let member = 0; member < population; member++) {
    const uniform = Number(stream.readBigUInt64LE(8 * member) >> 11n) * 2 ** -53
    if (uniform < rate) drawn.push(member)
  }
  return drawn
}
