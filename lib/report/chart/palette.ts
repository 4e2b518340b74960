/**
 * Chart colors for light and dark mode. The seven series hues stay distinguishable in OKLab under protanopia,
 * deuteranopia, and tritanopia, and have a contrast of at least 3:1 with the background.
 */

export interface Palette {
  /** Background of the chart. */
  ground: string
  ink: string
  /** Text of axes. */
  faint: string
  axis: string
  grid: string
  /** Hues of the series. */
  series: readonly string[]
  /** Memory categories: three blues for the base, three oranges for trained parameters, three greens for a step. */
  parts: readonly string[]
  /** Colors of the smallest and largest values in a heat map. */
  heat: readonly [string, string]
}

export const LIGHT: Palette = {
  ground: '#fdfdfc',
  ink: '#1b1d21',
  faint: '#646971',
  axis: '#c9cbce',
  grid: '#ebebec',
  series: ['#105bca', '#d27008', '#36a18b', '#98307c', '#635908', '#a47ee7', '#303034'],
  parts: ['#1f5f99', '#6d9fcb', '#a9c8e2', '#a8480a', '#d9833f', '#efb98b', '#2f7d67', '#7fb5a2', '#b9d8cc'],
  heat: ['#eef3f8', '#0b3f78'],
}

export const DARK: Palette = {
  ground: '#121417',
  ink: '#e9eaec',
  faint: '#9399a2',
  axis: '#434850',
  grid: '#22262b',
  series: ['#397cd5', '#f8a03f', '#82dfc1', '#a33f83', '#6d6604', '#cf9ffe', '#9a8e88'],
  parts: ['#4d94d6', '#33628f', '#24435f', '#e08a45', '#a75f28', '#6b4123', '#4fb597', '#327461', '#24503f'],
  heat: ['#1b232c', '#9ccbff'],
}

/** Number of hues; further series reuse them with other marks. */
export const HUES = LIGHT.series.length
/** Number of shades in a heat map, counted from 0. */
export const HEAT_STEPS = 10

/** CSS rules for charts, for a page or an SVG document. They refer only to classes. */
export function chartStyle(palette: Palette): string {
  const { ground, ink, faint, axis, grid, series, parts, heat } = palette
  const hues = [...series.entries()].map(
    ([index, color]) => `.chart .k${index}.st{stroke:${color}}.chart .k${index}.fl{fill:${color}}`,
  )
  const categories = parts.map((color, index) => `.chart .m${index}{fill:${color}}`)
  const steps = Array.from({ length: HEAT_STEPS + 1 }, (_, step) => {
    const color = mixed(heat[0], heat[1], step / HEAT_STEPS)
    return `.chart .h${step}{fill:${color}}.chart .t${step}{fill:${inkOn(color)}}`
  })
  return [
    `.chart text{fill:${faint};font-size:12px}.chart .label{fill:${ink};font-weight:600}.chart .note{fill:${ink}}`,
    `.chart .title{fill:${ink};font-size:17px;font-weight:600}`,
    `.chart .ground{fill:${ground}}.chart .grid{stroke:${grid}}.chart .axis{stroke:${axis};fill:none}`,
    `.chart .rule{stroke:${faint};stroke-dasharray:2 3}.chart .mark{stroke:${ink};stroke-width:2}`,
    '.chart .line{fill:none;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}.chart .thin{stroke-width:1.3}',
    '.chart .raw{fill:none;stroke-width:1;stroke-opacity:.4}.chart .dash{stroke-dasharray:5 3.5}',
    `.chart .ghost{fill:none;stroke:${faint};stroke-opacity:.35}.chart .area{fill-opacity:.13}`,
    `.chart .dot{stroke:${ground};stroke-width:1.5}.chart .open{fill:${ground};stroke-width:1.9}`,
    `.chart .halo{stroke:${ground};stroke-width:4;paint-order:stroke}`,
    '.chart .lead{fill:none;stroke-width:1.2}.chart .whisker{stroke-width:2.2;stroke-linecap:round}',
    `.chart .seed{fill-opacity:.75}.chart .pareto{fill:none;stroke:${faint};stroke-dasharray:1 3;stroke-width:1.4}`,
    `.chart .part{stroke:${ground};stroke-width:1}.chart .cursor{stroke:${faint};pointer-events:none}`,
    ...hues,
    ...categories,
    ...steps,
  ].join('\n')
}

/** Black or white, whichever has the higher contrast by WCAG's relative luminance. */
function inkOn(hex: string): string {
  const [red = 0, green = 0, blue = 0] = linearOf(hex)
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000000' : '#ffffff'
}

/** Interpolates between two colors in OKLab, where steps look even. */
export function mixed(from: string, to: string, share: number): string {
  const [a, b] = [okLab(from), okLab(to)]
  return hexOf(a.map((value, i) => value + ((b[i] as number) - value) * share))
}

/** Lightness and the two color axes of OKLab (Ottosson 2020). */
export function okLab(hex: string): number[] {
  return times(TO_LAB, times(TO_CONES, linearOf(hex)).map(Math.cbrt))
}

/** Red, green, and blue in linear light. */
function linearOf(hex: string): number[] {
  return [1, 3, 5].map((at) => linear(Number.parseInt(hex.slice(at, at + 2), 16) / 255))
}

function hexOf(lab: readonly number[]): string {
  const cones = times(FROM_LAB, lab).map((value) => value ** 3)
  const bytes = times(FROM_CONES, cones).map((value) => Math.round(255 * encoded(value)))
  return `#${bytes.map((byte) => Math.min(255, Math.max(0, byte)).toString(16).padStart(2, '0')).join('')}`
}

const TO_CONES = [
  [0.4122214708, 0.5363325363, 0.0514459929],
  [0.2119034982, 0.6806995451, 0.1073969566],
  [0.0883024619, 0.2817188376, 0.6299787005],
]
const TO_LAB = [
  [0.2104542553, 0.793617785, -0.0040720468],
  [1.9779984951, -2.428592205, 0.4505937099],
  [0.0259040371, 0.7827717662, -0.808675766],
]
const FROM_LAB = [
  [1, 0.3963377774, 0.2158037573],
  [1, -0.1055613458, -0.0638541728],
  [1, -0.0894841775, -1.291485548],
]
const FROM_CONES = [
  [4.0767416621, -3.3077115913, 0.2309699292],
  [-1.2684380046, 2.6097574011, -0.3413193965],
  [-0.0041960863, -0.7034186147, 1.707614701],
]

function times(matrix: readonly number[][], vector: readonly number[]): number[] {
  return matrix.map((row) => row.reduce((sum, value, i) => sum + value * (vector[i] as number), 0))
}

function linear(value: number): number {
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
}

function encoded(value: number): number {
  return value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055
}
