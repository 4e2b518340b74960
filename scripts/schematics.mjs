/**
 * A drawing of a strategy, made from its configuration object alone: what is added to a frozen weight, what trains, the
 * shapes, and what several linears share. `npm run build:schemas` writes one for each page in docs/strategies.
 */
import { describeAdapter } from '../dist/esm/strategies/describe.js'
import { rulesOf } from '../dist/esm/strategies/index.js'

/** Linears of the drawn model: three alike in two layers, and one of another shape. */
const SITES = [0, 1].flatMap((layer) => [
  { path: `model.layers.${layer}.mlp.up_proj`, in: 576, out: 1536 },
  { path: `model.layers.${layer}.self_attn.v_proj`, in: 576, out: 192 },
])

const COLORS = {
  trained: { fill: '#ffe7cc', stroke: '#bc4c00', text: '#7a3300' },
  frozen: { fill: '#eaeef2', stroke: '#6e7781', text: '#424a53' },
}
const INK = '#1f2328'
const FAINT = '#59636e'
const GAP = 12
const TOP = 78

const round = (value) => Number(value.toFixed(1))
const escaped = (words) => String(words).replaceAll('&', '&amp;').replaceAll('<', '&lt;')
/** Side of a rectangle for as many rows or columns: their square root, so that a rank can be seen beside a width. */
const side = (count) => Math.max(10, 3.6 * Math.sqrt(count))
const text = (x, y, words, rest = '') =>
  `<text x="${round(x)}" y="${round(y)}" ${rest}>${escaped(words)}</text>`

/** A piece of the formula: its width and height, and how it is drawn with its left edge at x and its middle at y. */
const sign = (words, size = 20) => ({
  width: words.length * size * 0.56 + 4,
  height: size,
  draw: (x, y) => [text(x + 2, y + size * 0.34, words, `font-size="${size}" fill="${INK}"`)],
})

/**
 * @param options.note a line below the shape
 * @param options.diagonal draw a vector as a diagonal matrix
 * @param options.first `rows` or `cols`: only the first of them are in use, in a step
 */
function matrix(label, factor, { shared = 0, note = '', diagonal = false, first } = {}) {
  const { fill, stroke, text: ink } = COLORS[factor.trained ? 'trained' : 'frozen']
  const count = factor.rows * factor.cols
  const [rows, cols] = diagonal ? [count, count] : [factor.rows, factor.cols]
  const [width, height] = [side(cols), side(rows)]
  const shape = diagonal ? `[${count}]` : `[${rows}, ${cols}]`
  const wide = Math.max(width, label.length * 8, shape.length * 6.2, note.length * 6)
  return {
    width: wide,
    height: height + 44,
    draw: (x, y) => {
      const [left, top] = [x + (wide - width) / 2, y - height / 2]
      const box = (dx, dy) =>
        `<rect x="${round(left + dx)}" y="${round(top + dy)}" width="${round(width)}" height="${round(height)}" rx="2" fill="${fill}" stroke="${stroke}" stroke-width="1.5"/>`
      const middle = x + wide / 2
      return [
        ...(shared > 1 ? [box(6, -6), box(3, -3)] : []),
        ...(diagonal
          ? [
              box(0, 0)
                .replace(/fill="[^"]+"/, 'fill="#ffffff"')
                .replace(/stroke-width="1.5"/, 'stroke-width="1" stroke-dasharray="3 3"'),
              `<line x1="${round(left)}" y1="${round(top)}" x2="${round(left + width)}" y2="${round(top + height)}" stroke="${stroke}" stroke-width="5"/>`,
            ]
          : [box(0, 0)]),
        ...(first === undefined ? [] : [unused(left, top, width, height, first, stroke)]),
        text(
          middle,
          top - (shared > 1 ? 14 : 8),
          label,
          `text-anchor="middle" font-weight="600" fill="${ink}"`,
        ),
        text(middle, top + height + 15, shape, `text-anchor="middle" font-size="11" fill="${FAINT}"`),
        ...(note
          ? [text(middle, top + height + 29, note, `text-anchor="middle" font-size="11" fill="${ink}"`)]
          : []),
      ]
    },
  }
}

/** Covers the second half of the rows or columns of a matrix. */
function unused(left, top, width, height, first, stroke) {
  const [w, h] = first === 'rows' ? [width, height / 2] : [width / 2, height]
  return `<rect x="${round(left + width - w)}" y="${round(top + height - h)}" width="${round(w)}" height="${round(h)}" fill="#ffffff" stroke="${stroke}" stroke-dasharray="3 3"/>`
}

/** The terms of each linear, with parameters and numbers side by side. */
const termsOf = (spec) =>
  spec.terms.map(({ kind, target, parameters, numbers }) => ({ kind, target, ...parameters, ...numbers }))

/** Number of linears in the drawing that use a factor. */
const usersOf = (spec, name) => termsOf(spec).filter((term) => Object.values(term).includes(name)).length

const number = (value) => Number(value.toPrecision(3)).toString()

/** A strategy's change of one linear, as pieces of a formula from left to right. */
function pieces(term, description, base) {
  const { spec, groups } = description
  const factors = new Map(description.factors.map((factor) => [factor.name, factor]))
  const rate = (name) => {
    const group = groups.find(({ parameters }) => parameters.includes(name))
    return group && group.learningRateFactor !== 1 ? `rate × ${number(group.learningRateFactor)}` : ''
  }
  const draw = (name, label, options = {}) =>
    name === undefined
      ? []
      : [matrix(label, factors.get(name), { shared: usersOf(spec, name), note: rate(name), ...options })]
  if (term.kind === 'rotation') return [base, sign('· diag(Rᵀ), R by'), ...draw(term.skew, 'Q')]
  if (term.kind === 'hadamard')
    return [base, sign('+'), base, sign('∘ ('), ...draw(term.b, 'B'), ...draw(term.a, 'A'), sign(')')]
  const diagonal = (name, label) => draw(name, label, { diagonal: true })
  const ranks = rulesOf(description.strategy).ranked?.(description.strategy)?.most > 1
  const some = (first) => (ranks ? { first, note: 'the first b' } : {})
  const pruned = (spec.triplets ?? []).some(({ d }) => d === term.d)
  const projected = (spec.projections ?? []).some(({ b }) => b === term.b)
  const scale = term.scale === 1 ? [] : [sign(`${number(term.scale)} ·`)]
  const { lambda } = description.strategy
  const own = term.snapshotA === undefined ? [] : [sign('('), sign(`${number(1 + lambda)} ·`)]
  const taken =
    term.snapshotA === undefined
      ? []
      : [
          sign(`− ${number(lambda)} ·`),
          ...draw(term.snapshotB, 'B*'),
          ...draw(term.snapshotA, 'A*'),
          sign(')'),
        ]
  const change =
    term.kind === 'low_rank'
      ? [
          ...scale,
          ...own,
          ...diagonal(term.bGain, 'b'),
          ...draw(term.b, 'B', projected ? { note: 'dB (A Aᵀ)⁻¹ / s²' } : some('cols')),
          ...draw(term.d, pruned ? 'E' : 'd', { diagonal: true, ...(pruned ? { note: 'pruned' } : {}) }),
          ...draw(term.a, 'A', some('rows')),
          ...taken,
        ]
      : term.kind === 'pair'
        ? [
            ...scale,
            sign('('),
            ...draw(term.b, 'B₁'),
            ...draw(term.a, 'A₁'),
            sign(') ∘ ('),
            ...draw(term.b2, 'B₂'),
            ...draw(term.a2, 'A₂'),
            sign(')'),
          ]
        : [
            ...scale,
            sign('('),
            ...draw(term.c, term.c2 === undefined ? 'w1' : 'w1_a'),
            ...draw(term.c2, 'w1_b'),
            sign(') ⊗ ('),
            ...draw(term.d, term.d2 === undefined ? 'w2' : 'w2_a'),
            ...draw(term.d2, 'w2_b'),
            sign(')'),
          ]
  const sum = [base, sign('+'), ...change]
  if (term.magnitude === undefined) return sum
  return [...diagonal(term.magnitude, 'm / ‖rows‖'), sign('('), ...sum, sign(')')]
}

/** @returns an SVG document */
export function schematic(config) {
  const rules = rulesOf(config)
  // Before a probe, everything is drawn as shared.
  const drawnConfig = 'keep' in config ? { ...config, keep: [] } : config
  const description = describeAdapter(drawnConfig, SITES, { strict: false })
  const { quantization } = rules.defaults(config)
  const [term] = termsOf(description.spec)
  const site = SITES.find(({ path }) => path === term.target)
  const held = quantization && quantization.type !== 'none' ? `in ${quantization.type.toUpperCase()}` : ''
  const base = matrix('W₀', { rows: site.out, cols: site.in, trained: false }, { note: held })
  const row = [sign('W ='), ...pieces(term, description, base)]
  const width = Math.max(560, 48 + row.reduce((sum, piece) => sum + piece.width + GAP, 0))
  const tall = Math.max(...row.map(({ height }) => height))
  const middle = TOP + tall / 2
  const drawn = []
  let x = 24
  for (const piece of row) {
    drawn.push(...piece.draw(x, middle))
    x += piece.width + GAP
  }
  const trained = description.factors.filter((factor) => factor.trained)
  const own = trained.filter(({ name }) => Object.values(term).includes(name))
  const count = own.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const shared = description.factors.some(
    ({ name, rows, cols }) => rows * cols > 1 && usersOf(description.spec, name) > 1,
  )
  const height = round(TOP + tall + 52)
  const legend = [
    ['trained', 'trains'],
    ['frozen', 'frozen'],
  ].flatMap(([kind, words], i) => [
    `<rect x="${24 + i * 90}" y="${height - 30}" width="14" height="14" rx="2" fill="${COLORS[kind].fill}" stroke="${COLORS[kind].stroke}" stroke-width="1.5"/>`,
    text(44 + i * 90, height - 18, words),
  ])
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${round(width)}" height="${height}" viewBox="0 0 ${round(width)} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(`${config.name}: what it adds to a frozen weight of ${site.out} rows and ${site.in} columns`)}</title>`,
    `<rect width="${round(width)}" height="${height}" rx="8" fill="#ffffff"/>`,
    text(24, 34, config.name, `font-size="17" font-weight="600" fill="${INK}"`),
    text(
      24,
      54,
      `${count.toLocaleString('en-US')} numbers train beside ${(site.out * site.in).toLocaleString('en-US')} frozen ones`,
    ),
    ...drawn,
    ...legend,
    ...(shared ? [text(214, height - 18, 'a stack: one array that several linears share')] : []),
    '</svg>',
  ].join('\n')}\n`
}

const MARGIN = 20

/**
 * Drawings of several strategies in one, `columns` to a row, so that they can be compared.
 * @returns an SVG document
 */
export function schematicsBeside(title, configs, columns) {
  const drawings = configs.map((config) => {
    const whole = schematic(config)
    const [, width, height] = /width="([\d.]+)" height="([\d.]+)"/.exec(whole).map(Number)
    const inside = whole.slice(whole.indexOf('</title>') + '</title>'.length, whole.lastIndexOf('</svg>'))
    return { width, height, inside }
  })
  const most = (list, key) => Math.max(...list.map((one) => one[key]))
  const widths = Array.from({ length: columns }, (_, column) =>
    most(
      drawings.filter((_, i) => i % columns === column),
      'width',
    ),
  )
  const drawn = []
  let top = TOP - 20
  for (let first = 0; first < drawings.length; first += columns) {
    const row = drawings.slice(first, first + columns)
    let left = MARGIN
    for (const [column, { width, height, inside }] of row.entries()) {
      const wide = widths[column]
      // The ground of each is as wide as its column.
      const ground = inside.replace(`width="${width}"`, `width="${wide}"`)
      drawn.push(
        `<svg x="${round(left)}" y="${round(top)}" width="${wide}" height="${height}">${ground}</svg>`,
      )
      left += wide + MARGIN
    }
    top += most(row, 'height') + MARGIN
  }
  const width = round(widths.reduce((sum, one) => sum + one + MARGIN, MARGIN))
  const height = round(top)
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#eef1f4"/>`,
    text(MARGIN, 36, title, `font-size="19" font-weight="600" fill="${INK}"`),
    ...drawn,
    '</svg>',
  ].join('\n')}\n`
}
