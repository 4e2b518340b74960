/** What the formula of a strategy does not show: how the weight moves, what is measured first, and where things lie. */
import { linearsToKeep } from '../../dist/esm/strategies/lora-drop.js'
import { arrow, box, COLORS, linesOf, matrix, round, rowOf, SMALL, sign, text, widthOf } from './shapes.mjs'

/** Blocks below the formula, by strategy. */
export const ASIDES = { 'delta-lora': weightUpdate, 'lora-drop': probe, qlora: storage }

/** Delta-LoRA adds the step's change of the product to the weight. */
function weightUpdate({ lambda }, { weight, term, factors }) {
  const moves = (label) => matrix(label, weight, { color: 'updated' })
  const pair = (note, trained) => [
    matrix('B', { ...factors.get(term.b), trained }, { note }),
    matrix('A', { ...factors.get(term.a), trained }, { note }),
  ]
  const factor = Number((lambda * term.scale).toPrecision(3))
  return [
    linesOf(['Each step adds λ times the change of the product to W:']),
    rowOf([
      ...[sign('Wₜ₊₁ ='), moves('Wₜ'), sign(`+ ${factor} · (`)],
      ...[...pair('after', true), sign('−'), ...pair('before', false), sign(')')],
    ]),
    linesOf([
      `The changes add up, so lowrank stores W as W₀ + ${factor} · (B A − B* A*),`,
      'with B* and A* from before the first change. W₀ may stay in NF4.',
    ]),
  ]
}

/** Shares of an example, by layer. */
const SHARES = [0.55, 0.04, 0.38, 0.03]
const [ROW, LONGEST] = [40, 120]

/** LoRA-drop measures how much each adapter adds to the output of its linear. */
function probe({ threshold }) {
  const norms = SHARES.map((value, layer) => ({
    site: { path: `model.layers.${layer}.mlp.up_proj`, in: 576, out: 1536 },
    value,
  }))
  const kept = linearsToKeep(norms, { threshold, scope: 'type' })
  const draw = (x, y) => {
    const top = y + 44
    const [bars, own, common] = [x + 172, x + 388, x + 484]
    const middleOf = (layer) => top + ROW * (layer + 0.5)
    const others = norms.flatMap(({ site }, layer) => (kept.includes(site.path) ? [] : [layer]))
    const place = (middleOf(others[0]) + middleOf(others.at(-1))) / 2
    return [
      text(x, y + 13, '1. Probe: how much each adapter adds to the output', 'font-size="12"'),
      text(bars, y + 34, 'Σ ‖s B A x‖²', `font-size="${SMALL}"`),
      text(own, y + 13, '2. Run', 'font-size="12"'),
      ...norms.flatMap(({ site, value }, layer) => {
        const at = middleOf(layer)
        const end = bars + LONGEST * value
        const isKept = kept.includes(site.path)
        const share = `${Math.round(value * 100)}%`
        const begin = end + 16 + widthOf(share, SMALL)
        return [
          text(x, at + 4, `layer ${layer}`, `font-size="${SMALL}"`),
          text(x + 56, at + 4, 'x', 'font-size="12"'),
          ...arrow([x + 68, at], [x + 80, at]),
          ...smallPair(x + 84, at),
          ...arrow([x + 136, at], [bars - 6, at]),
          bar(bars, at, LONGEST * value),
          text(end + 8, at + 4, share, `font-size="${SMALL}"`),
          ...(isKept
            ? [...arrow([begin, at], [own - 6, at]), ...smallPair(own, at)]
            : arrow([begin, at], [own + 56, at], [common - 8, place + (at < place ? -10 : 10)])),
        ]
      }),
      ...[6, 3, 0].flatMap((shift) => smallPair(common + shift, place - shift)),
      text(own, top + ROW * SHARES.length + 12, 'own', `font-size="${SMALL}"`),
      text(common, top + ROW * SHARES.length + 12, 'shared', `font-size="${SMALL}"`),
    ]
  }
  return [
    { width: 550, height: 62 + ROW * SHARES.length, draw },
    linesOf([
      `Linears keep a pair of their own in the order of their shares, up to ${threshold * 100}% together;`,
      'the others of a shape share one. The shares drawn here are an example.',
    ]),
  ]
}

/** A and then B, as x passes them. */
function smallPair(x, y) {
  return [rect(x, y, 26, 8, 'trained'), rect(x + 34, y, 8, 28, 'trained')]
}

const bar = (x, y, width) => rect(x, y, Math.max(2, width), 14, 'measured')

function rect(x, y, width, height, color) {
  const { fill, stroke } = COLORS[color]
  return `<rect x="${round(x)}" y="${round(y - height / 2)}" width="${round(width)}" height="${height}" rx="1" fill="${fill}" stroke="${stroke}" stroke-width="1.2"/>`
}

/** QLoRA quantizes the weight and its scales, and pages the optimizer state. */
function storage() {
  const [wide, gap] = [132, 26]
  const at = (index) => index * (wide + gap)
  const weights = (x, y) => [
    ...box(x + at(0), y + 29, wide, ['fp32 scale', 'of 256 scales'], 'frozen'),
    ...box(x + at(1), y + 29, wide, ['8-bit absmax', 'of 64 weights'], 'frozen'),
    ...box(x + at(2), y + 29, wide, ['NF4 codes', '4 bits per weight'], 'frozen'),
    ...box(x + at(3), y + 29, wide, ['dequantized', 'in the product'], 'frozen'),
    ...[1, 2, 3].flatMap((index) => arrow([x + at(index) - gap + 3, y + 29], [x + at(index) - 4, y + 29])),
  ]
  const far = at(2) + 70
  const state = (x, top) => {
    const y = top + 8
    return [
      ...box(x, y + 29, wide, ['A and B', 'gradients'], 'trained'),
      ...arrow([x + wide + 3, y + 29], [x + at(1) - 4, y + 29]),
      ...box(x + at(1), y + 29, wide, ['optimizer state', 'in use'], 'measured'),
      ...arrow([x + at(2) - 22, y + 22], [x + far - 4, y + 22]),
      ...arrow([x + far - 4, y + 36], [x + at(2) - 22, y + 36]),
      text(x + (at(2) - 22 + far) / 2, y + 14, 'pages', `text-anchor="middle" font-size="${SMALL}"`),
      ...box(x + far, y + 29, wide, ['the rest of it', 'GPU: host memory', 'CPU: a file'], 'measured'),
    ]
  }
  const width = at(3) + wide
  return [
    linesOf(['W₀ is stored with double quantization: its scales are quantized, too.']),
    { width, height: 66, draw: weights },
    linesOf(['If memory is short, the optimizer state is paged:']),
    { width, height: 74, draw: state },
  ]
}
