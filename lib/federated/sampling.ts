/** Samples the participants of a round with a secret key, since the guarantee assumes that nobody knows them. */
import { createCipheriv } from 'node:crypto'

/**
 * Members of a Poisson sample, ascending: each of 0 .. population - 1 is included independently with
 * probability `rate`. The same (key, round) gives the same sample.
 * @param key 32 bytes
 */
export function drawCohort(key: Uint8Array, round: number, population: number, rate: number): number[] {
  // OpenSSL takes the block counter followed by the nonce of RFC 8439; the noise uses other nonces.
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
