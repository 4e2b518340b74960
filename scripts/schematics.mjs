/**
 * A drawing of a strategy, made from its configuration object alone: what is added to a frozen weight, what trains, the
 * shapes, and what several linears share. `npm run build:schemas` writes one for each page in docs/strategies.
 */
import { describeAdapter } from '../dist/esm/strategies/describe.js'
import { rulesOf } from '../dist/esm/strategies/index.js'
import { ASIDES } from './schematics/asides.mjs'
import {
  COLORS,
  escaped,
  FAINT,
  INK,
  matrix,
  round,
  rowOf,
  sign,
  text,
  widthOf,
} from './schematics/shapes.mjs'

/** Linears of the drawn model: three alike in two layers, and one of another shape. */
const SITES = [0, 1].flatMap((layer) => [
  { path: `model.layers.${layer}.mlp.up_proj`, in: 576, out: 1536 },
  { path: `model.layers.${layer}.self_attn.v_proj`, in: 576, out: 192 },
])

/** Where the drawing begins, and the edge and gaps around it. */
const [TOP, EDGE, SPACE] = [70, 24, 14]
const LEGEND = { trained: 'trains', frozen: 'frozen', updated: 'updated, without a gradient' }

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
    // VeRA's pair and LoRA-FA's A keep the random values that they start with.
    const { trained, initializer } = factors.get(name)
    if (!trained && ['normal', 'uniform', 'torch_uniform'].includes(initializer.kind)) return 'random'
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
  const change =
    term.kind === 'low_rank'
      ? [
          ...scale,
          ...diagonal(term.bGain, 'b'),
          ...draw(term.b, 'B', projected ? { note: 'dB (A Aᵀ)⁻¹ / s²' } : some('cols')),
          ...draw(term.d, pruned ? 'E' : 'd', { diagonal: true, ...(pruned ? { note: 'pruned' } : {}) }),
          ...draw(term.a, 'A', some('rows')),
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
  const weight = { rows: site.out, cols: site.in, trained: false }
  const isUpdated = term.snapshotA !== undefined
  const base = isUpdated ? matrix('Wₜ', weight, { color: 'updated' }) : matrix('W₀', weight, { note: held })
  const factors = new Map(description.factors.map((factor) => [factor.name, factor]))
  const aside = ASIDES[config.name]?.(config, { weight, term, factors }) ?? []
  const blocks = [rowOf([sign('W ='), ...pieces(term, description, base)]), ...aside]
  const trained = description.factors.filter((factor) => factor.trained)
  const own = trained.filter(({ name }) => Object.values(term).includes(name))
  const count = own.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const [few, many] = [count, site.out * site.in].map((value) => value.toLocaleString('en-US'))
  const counts = isUpdated
    ? `${few} numbers train, and ${many} of W move with them`
    : `${few} numbers train beside ${many} frozen ones`
  const shared = description.factors.some(
    ({ name, rows, cols }) => rows * cols > 1 && usersOf(description.spec, name) > 1,
  )
  const colors = ['trained', 'frozen', ...(isUpdated ? ['updated'] : [])]
  const legend = legendOf(colors, shared)
  const width = round(
    2 * EDGE + Math.max(legend.width, widthOf(counts), ...blocks.map((block) => block.width)),
  )
  const drawn = []
  let top = TOP
  for (const block of blocks) {
    drawn.push(...block.draw(EDGE, top))
    top += block.height + SPACE
  }
  const height = round(top + 34)
  const what = `what it adds to a ${isUpdated ? '' : 'frozen '}weight of ${site.out} rows and ${site.in} columns`
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13" fill="${FAINT}">`,
    `<title id="title">${escaped(`${config.name}: ${what}`)}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#ffffff"/>`,
    text(EDGE, 34, config.name, `font-size="17" font-weight="600" fill="${INK}"`),
    text(EDGE, 54, counts),
    ...drawn,
    ...legend.draw(EDGE, height - 30),
    '</svg>',
  ].join('\n')}\n`
}

/** What the colors mean, and a stack. */
function legendOf(colors, shared) {
  const names = colors.map((color) => LEGEND[color])
  const stack = shared ? 'a stack: several linears share it' : ''
  const room = (words) => 34 + widthOf(words)
  const width = names.reduce((sum, words) => sum + room(words), widthOf(stack))
  const draw = (x, y) => {
    let left = x
    const swatches = colors.flatMap((color, i) => {
      const { fill, stroke } = COLORS[color]
      const at = left
      left += room(names[i])
      return [
        `<rect x="${round(at)}" y="${round(y)}" width="14" height="14" rx="2" fill="${fill}" stroke="${stroke}" stroke-width="1.5"/>`,
        text(at + 20, y + 12, names[i]),
      ]
    })
    return [...swatches, ...(shared ? [text(left, y + 12, stack)] : [])]
  }
  return { width, draw }
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
    const tall = most(row, 'height')
    let left = MARGIN
    for (const [column, { width, height, inside }] of row.entries()) {
      const wide = widths[column]
      // The ground of each is as wide as its column and as tall as its row.
      const ground = inside.replace(`width="${width}" height="${height}"`, `width="${wide}" height="${tall}"`)
      drawn.push(`<svg x="${round(left)}" y="${round(top)}" width="${wide}" height="${tall}">${ground}</svg>`)
      left += wide + MARGIN
    }
    top += tall + MARGIN
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
