import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../../lib/core/errors.js'
import { rotaryFrequencies } from '../../../lib/models/rope.js'

interface Golden {
  name: string
  head_dim: number
  max_position_embeddings: number
  parameters: Record<string, unknown>
  inv_freq: number[]
  attention_factor: number
}

const goldens = JSON.parse(
  readFileSync(new URL('../../parity/numbers/rope.json', import.meta.url), 'utf8'),
) as Golden[]

describe.each(goldens)('rotary frequencies of $name', (golden) => {
  const { head_dim, max_position_embeddings, parameters } = golden
  // Older configs keep theta apart and the name of the scaling under another key.
  const { rope_theta, rope_type, ...rest } = parameters
  const older = { rope_theta, rope_scaling: rope_type === 'default' ? null : { ...rest, type: rope_type } }

  it.each([
    ['newer', { rope_parameters: parameters }],
    ['older', older],
  ])('equal those of transformers, in the %s spelling', (_, config) => {
    const rotary = rotaryFrequencies(config, head_dim, max_position_embeddings)
    expect(rotary.invFreq).toHaveLength(golden.inv_freq.length)
    for (const [i, expected] of golden.inv_freq.entries()) {
      // transformers computes them in float32.
      expect(Math.abs((rotary.invFreq[i] as number) / expected - 1)).toBeLessThan(1e-6)
    }
    expect(Math.abs(rotary.attentionFactor / golden.attention_factor - 1)).toBeLessThan(1e-12)
  })
})

describe('a rotary embedding that is not computed here', () => {
  const refused = (config: Record<string, unknown>) => () => rotaryFrequencies(config, 64, 4096)

  it.each(['dynamic', 'longrope', 'proportional'])('is refused by name: %s', (type) => {
    const message = `RoPE scaling "${type}" is not supported. Supported: default, linear, llama3, yarn.`
    expect(refused({ rope_scaling: { rope_type: type, factor: 2 } })).toThrow(message)
    expect(refused({ rope_parameters: { rope_type: type, factor: 2 } })).toThrow(UnsupportedError)
  })

  it('is refused if it turns a part of each head', () => {
    expect(refused({ partial_rotary_factor: 0.5 })).toThrow('partial_rotary_factor is 0.5')
    expect(refused({ rope_parameters: { partial_rotary_factor: 0.25 } })).toThrow(UnsupportedError)
  })

  it('is refused if it differs by type of layer', () => {
    const parameters = {
      full_attention: { rope_type: 'default' },
      sliding_attention: { rope_type: 'default' },
    }
    expect(refused({ rope_parameters: parameters })).toThrow('differ between layer types')
  })

  it.each([0, -1, 'two', undefined])('has a factor above zero, not %s', (factor) => {
    expect(refused({ rope_scaling: { rope_type: 'linear', factor } })).toThrow(
      `config.json rope_scaling: factor is ${factor === undefined ? 'missing' : JSON.stringify(factor)}, expected a number above zero`,
    )
  })
})
