import { describe, expect, it } from 'vitest'
import { chartStyle, DARK, LIGHT, mixed, okLab } from '../../../../lib/report/chart/palette.js'

/** Full dichromacy in linear RGB (Machado, Oliveira and Fernandes 2009). */
const SIGHT = {
  normal: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  protanopia: [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
  deuteranopia: [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881],
  tritanopia: [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039],
}

const channels = (hex: string) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255)
const linear = (value: number) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
const encoded = (value: number) => (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055)

function seen(hex: string, matrix: readonly number[]): string {
  const rgb = channels(hex).map(linear)
  const bytes = [0, 3, 6].map((row) => {
    const value = rgb.reduce((sum, channel, i) => sum + (matrix[row + i] as number) * channel, 0)
    return Math.round(255 * encoded(Math.min(1, Math.max(0, value))))
  })
  return `#${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('')}`
}

function luminance(hex: string): number {
  const [r = 0, g = 0, b = 0] = channels(hex).map(linear)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

function contrast(a: string, b: string): number {
  const [light = 0, dark = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (light + 0.05) / (dark + 0.05)
}

describe.each([
  ['light', LIGHT],
  ['dark', DARK],
])('the %s palette', (_, palette) => {
  it.each(Object.entries(SIGHT))('keeps hues apart under %s', (_sight, matrix) => {
    const labs = palette.series.map((color) => okLab(seen(color, matrix)))
    for (const [i, a] of labs.entries())
      for (const b of labs.slice(0, i))
        expect(100 * Math.hypot(...a.map((value, axis) => value - (b[axis] as number)))).toBeGreaterThan(8)
  })

  it('stands out from its ground', () => {
    for (const color of palette.series) expect(contrast(color, palette.ground)).toBeGreaterThanOrEqual(2.9)
    for (const color of [palette.ink, palette.faint])
      expect(contrast(color, palette.ground)).toBeGreaterThanOrEqual(4.5)
  })

  it('has legible numbers on every step of a heat map', () => {
    for (let step = 0; step <= 10; step++) {
      const ground = mixed(...palette.heat, step / 10)
      expect(chartStyle(palette)).toContain(`.chart .h${step}{fill:${ground}}`)
      const [, ink = ''] = new RegExp(`\\.t${step}\\{fill:(#\\w+)\\}`).exec(chartStyle(palette)) ?? []
      expect(contrast(ink, ground)).toBeGreaterThanOrEqual(4.5)
    }
  })
})

it('mixes from one end to the other', () => {
  expect(mixed('#eef3f8', '#0b3f78', 0)).toBe('#eef3f8')
  expect(mixed('#eef3f8', '#0b3f78', 1)).toBe('#0b3f78')
})
