/**
 * Holds the direction of imports between the folders of lib/, the rooms of lib/train/, and of #include lines between the
 * folders of native/, and prints the picture: floor by floor, each arrow with the number of its imports. A file beside the
 * folders belongs to `.`.
 *
 *   node scripts/floors.mjs [--root CLONE]
 *
 * Exits 1 where an import is not in the table below, where it passes a wall beside its doors, where folders or files import
 * each other in a circle, and where benchmarks are loaded before they are asked for. Imports of types and dynamic imports
 * count as any other.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, posix, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import ts from 'typescript'

/** Floors, lowest first: each folder with the folders below that it may import. */
const FLOORS = {
  lib: {
    core: '',
    graph: '',
    io: 'core',
    formats: 'core io',
    native: 'core graph formats',
    grammar: 'core native',
    hub: 'core io formats',
    tokenizer: 'core io formats',
    models: 'core graph formats tokenizer',
    data: 'core io formats native grammar tokenizer models',
    losses: 'core native data',
    tasks: 'core data losses',
    weights: 'core graph io formats native hub',
    strategies: 'core graph formats native weights',
    peft: 'core graph io formats native weights strategies',
    base: 'core graph io formats native tokenizer data weights strategies peft',
    options: 'core native tasks weights strategies',
    planning: 'core graph io formats native hub tasks models weights strategies options',
    time: 'core graph io formats native hub models strategies options planning',
    train:
      'core io formats native hub tokenizer data losses tasks weights strategies peft base options planning time',
    report: 'core io train',
    federated: 'core native data strategies options planning train',
    export: 'core graph io formats native tokenizer data models weights strategies peft base train',
    model:
      'core graph formats native hub tokenizer data losses tasks models weights strategies peft base options planning train federated export report',
    compare: 'core io native data tasks weights strategies base options planning train model report',
    serve: 'core io grammar native data tokenizer base options strategies peft planning train model report',
    ai: 'core model serve',
    bench: 'core native models weights strategies options planning model report',
    '.': 'core formats native hub tokenizer data losses tasks weights strategies base options planning train federated export model compare',
    cli: 'core graph io formats native hub tokenizer data tasks models weights strategies peft options planning time train federated export model report compare serve bench',
  },
  'lib/train': {
    sources: '',
    processes: '',
    decoding: '',
    folders: '',
    rows: 'sources',
    engine: 'processes',
    steps: 'sources processes rows engine',
    answers: 'decoding rows steps',
    measures: 'decoding rows steps answers',
    checkpoints: 'folders rows steps',
    records: 'sources folders rows steps answers checkpoints',
    objectives: 'decoding folders rows engine steps answers measures checkpoints',
    run: 'sources processes folders rows engine steps answers measures checkpoints records objectives',
    config: 'sources folders rows steps answers checkpoints records',
  },
  native: {
    core: '',
    graph: 'core',
    quant: 'core',
    os: 'core',
    comm: 'core os',
    kernels: 'core',
    device: 'core quant kernels',
    backends: 'core quant os kernels device',
    plan: 'core graph device',
    adapters: 'core graph quant kernels device plan',
    ops: 'core graph kernels plan adapters',
    optim: 'core kernels device adapters',
    weights: 'core graph quant os device plan adapters ops',
    runtime: 'core graph os comm device backends plan adapters ops optim weights',
    grammar: 'core runtime',
    addon: 'core os comm device backends adapters ops optim weights runtime grammar',
  },
}

/**
 * Walls: the files of a folder that others may import, by their stems, at most six beside vocabulary; its other files are
 * private. `index.ts` of lib, which names what the package exports, may import any file.
 */
const DOORS = {
  lib: {
    graph: 'builder graph',
    hub: 'blobs locate name options select settings',
    'data/forms': 'form index',
    models: 'classifier index part rope shapes',
    tasks: 'index metrics rewards task',
    base: 'base model-folder',
    time: 'estimate kept-figures measure setting',
    federated: 'clients privacy rounds',
    export: 'options save vllm',
    model: 'adapter attach chat load model options',
    bench: 'memory speed',
    serve: 'ids index local-chat',
    'train/sources': 'data-sources sample',
    'train/processes': 'processes pipe',
    'train/folders': 'output-folder run-files run-lock',
    'train/rows': 'batches data fingerprint held-out prompting rows-to-ask',
    'train/engine': 'gradients passes scored-rows',
    'train/steps': 'best class-metrics evaluate events objective step',
    'train/decoding': 'batch decoder',
    'train/answers': 'classify generate sampled-answers samples score',
    'train/measures': 'answer-scores exact-match held-out-answers reward-functions row-measures word-f1',
    'train/checkpoints': 'checkpoint-file checkpoint-folder gathered keeper run-identity state-file',
    'train/records': 'event-schemas metrics-file model-card run-record tensorboard',
    'train/objectives': 'classification gradient-steps policy',
    'train/run': 'agreement forward-backward forward-backward-options probe run run-time',
    'train/config': 'config config-schema labels overrides preflight split',
    strategies: 'convert describe index part privacy-report strategy',
    report: 'chart/index compare-page live/index migrate-page report run-memory',
    compare: 'index rate-search results',
    core: 'arguments breather bytes counter-random environment errors foreign-keys foreign-values hosts mean nearest node-program once portable-exp portable-math quote root schema schema-shape system system-error time-limit type-names unknown-key',
    formats:
      'bnb dropout foreign-weights ggml-types gguf gguf-fields gguf-form gguf-metadata gguf-model gguf-names gguf-reading gguf-stored gguf-writer head-order model-files model-limits prompt-format rope-factors safetensors shard-index tensor-data tensor-source text-model',
    tokenizer:
      'adapted-messages adapted-template chat-dropped chat-spans chat-template gguf marks message python-space python-text python-values read-source reasoning source strftime to-gguf token-offsets token-texts tokenizer training-templates',
    native:
      'addon device errors handles launcher level lists load mpi-libraries pieces platforms prebuilt remarks session',
  },
}
const MOST_DOORS = 6
/** Vocabulary, whose files are words that others use one by one: it has more doors, and its walls keep the rest private. */
const VOCABULARY = 'core formats tokenizer native'
const UNWALLED = ['index.ts']

/** Files that alone may import a folder from outside of it: where devices are found, made, planned for and timed. */
const VISITORS = {
  native: {
    backends:
      'addon/module.cpp runtime/engine.cpp runtime/engine.h runtime/gpus.cpp runtime/gpus.h runtime/arithmetic_peak.cpp runtime/arithmetic_peak.h',
  },
}

/** A folder that programs and commands which do without it never load: nothing reaches it from here but on demand. */
const ON_DEMAND = { lib: { folder: 'bench', from: ['index.ts', 'cli/program.ts'] } }

const TYPESCRIPT = { files: /\.c?ts$/, imports: (text, name) => typescriptImports(text, name) }
const READERS = {
  lib: TYPESCRIPT,
  'lib/train': TYPESCRIPT,
  native: { files: /\.(cpp|h|inl|cu|cuh)$/, imports: nativeIncludes },
}

const { values: flags } = parseArgs({
  options: { root: { type: 'string', default: resolve(import.meta.dirname, '..') } },
})
const sides = Object.keys(FLOORS).filter((side) => existsSync(join(flags.root, side)))
const faults = sides.flatMap((side) => [
  ...show(side, importsOf(join(flags.root, side), READERS[side])),
  ...(ON_DEMAND[side] ? loadedEarly(join(flags.root, side), ON_DEMAND[side]) : []),
])
for (const fault of faults) console.error(fault)
process.exitCode = faults.length === 0 ? 0 : 1

/** Prints one picture and returns its faults. */
function show(side, imports) {
  const floors = FLOORS[side]
  const order = Object.keys(floors)
  const arrows = arrowsOf(imports)
  const faults = []
  const allowed = (from, to) => words(floors[from]).includes(to) && order.indexOf(to) < order.indexOf(from)
  console.log(`${side}/`)
  const folders = [...imports.keys()].map(folderOf)
  for (const from of new Set([...order, ...folders])) {
    const own = [...(arrows.get(from) ?? new Map())]
    const count = folders.filter((folder) => folder === from).length
    console.log(
      `  ${`${from} (${count})`.padEnd(18)} ${own.map(([to, list]) => `${to} ${list.length}`).join(', ')}`,
    )
    for (const [to, list] of own)
      if (!allowed(from, to))
        faults.push(
          ...list.map(
            ([file, target]) => `${side}/${file} imports ${side}/${target}: ${from} may not import ${to}`,
          ),
        )
    for (const [to, list] of own) {
      const visitors = VISITORS[side]?.[to]
      if (visitors === undefined || !allowed(from, to)) continue
      for (const [file, target] of list)
        if (!words(visitors).includes(file))
          faults.push(
            `${side}/${file} imports ${side}/${target}: of ${from} only some files may import ${to}`,
          )
    }
    for (const to of words(floors[from]))
      if (!arrows.get(from)?.has(to)) console.log(`    imports nothing of ${to}, which the table lets it`)
  }
  faults.push(...besideDoors(side, imports))
  const rings = circles(new Map([...arrows].map(([from, own]) => [from, [...own.keys()]])))
  const files = circles(imports)
  faults.push(...rings.map((circle) => `${side}/: folders import each other: ${circle.join(', ')}`))
  faults.push(...files.map((circle) => `${side}/: files import each other: ${circle.join(', ')}`))
  const total = [...arrows.values()].reduce((sum, own) => sum + own.size, 0)
  console.log(
    `  ${order.length} folders, ${total} arrows, ` +
      `${rings.length} circles of folders, ${files.length} of files\n`,
  )
  return faults
}

/** Faults where imports pass walls beside their doors, and in the table of doors. */
function besideDoors(side, imports) {
  const faults = []
  for (const [folder, stems] of Object.entries(DOORS[side] ?? {})) {
    const doors = words(stems).map((stem) => `${folder}/${stem}`)
    if (doors.length > MOST_DOORS && !words(VOCABULARY).includes(folder))
      faults.push(`${side}/${folder} has ${doors.length} doors, more than ${MOST_DOORS}`)
    const used = new Set()
    const isInside = (file) => file.startsWith(`${folder}/`)
    for (const [file, targets] of imports) {
      if (isInside(file) || UNWALLED.includes(file)) continue
      for (const target of targets.filter(isInside)) {
        const door = target.replace(/\.c?ts$/, '')
        used.add(door)
        if (!doors.includes(door))
          faults.push(`${side}/${file} imports ${side}/${target}, which is private to ${side}/${folder}`)
      }
    }
    for (const door of doors)
      if (!used.has(door)) console.log(`    nobody imports ${side}/${door}, a door in the table`)
  }
  return faults
}

/** Faults where a folder is loaded at once that is to be loaded on demand. */
function loadedEarly(top, { folder, from }) {
  const reader = { files: READERS.lib.files, imports: (text, name) => typescriptImports(text, name, true) }
  const imports = importsOf(top, reader)
  const reached = new Map(from.map((file) => [file, file]))
  for (const [file, path] of reached)
    for (const target of imports.get(file) ?? [])
      if (!reached.has(target)) reached.set(target, `${path} -> ${target}`)
  const early = [...reached].find(([file]) => folderOf(file) === folder)
  return early ? [`lib/: ${folder} is loaded at once, not on demand: ${early[1]}`] : []
}

/** Folder -> folder -> the imports between them, as pairs of files. */
function arrowsOf(imports) {
  const arrows = new Map()
  for (const [file, targets] of imports)
    for (const target of targets) {
      const from = folderOf(file)
      const to = folderOf(target)
      if (from === to) continue
      if (!arrows.has(from)) arrows.set(from, new Map())
      const own = arrows.get(from)
      own.set(to, [...(own.get(to) ?? []), [file, target]])
    }
  return arrows
}

/** Every set of nodes that reach each other, sorted (Tarjan's strongly connected components of more than one node). */
function circles(edges) {
  const found = []
  const stack = []
  const at = new Map()
  const low = new Map()
  const open = new Set()
  const visit = (node) => {
    at.set(node, at.size)
    low.set(node, at.get(node))
    stack.push(node)
    open.add(node)
    for (const next of edges.get(node) ?? [])
      if (!at.has(next)) low.set(node, Math.min(low.get(node), visit(next)))
      else if (open.has(next)) low.set(node, Math.min(low.get(node), at.get(next)))
    if (low.get(node) === at.get(node)) {
      const members = stack.splice(stack.indexOf(node))
      for (const member of members) open.delete(member)
      if (members.length > 1) found.push(members.sort())
    }
    return low.get(node)
  }
  for (const node of edges.keys()) if (!at.has(node)) visit(node)
  return found
}

/** File -> the files of the same tree that it imports; paths from the tree's top. */
function importsOf(top, { files, imports }) {
  const names = readdirSync(top, { recursive: true }).filter((name) => files.test(name))
  const known = new Set(names)
  return new Map(
    names.sort().map((name) => {
      const targets = imports(readFileSync(join(top, name), 'utf8'), name, known)
      return [name, [...new Set(targets)].filter((target) => known.has(target))]
    }),
  )
}

/** @param atOnce leave out what is no more than types, or loaded on demand */
function typescriptImports(text, name, atOnce = false) {
  const found = []
  const add = (node) => {
    if (!node || !ts.isStringLiteralLike(node) || !node.text.startsWith('.')) return
    found.push(normalize(join(dirname(name), node.text.replace(/js$/, 'ts'))))
  }
  const walk = (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      if (!atOnce || !isOfTypes(node)) add(node.moduleSpecifier)
    } else if (atOnce) return
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0])
    else if (ts.isImportTypeNode(node)) add(node.argument.literal)
    ts.forEachChild(node, walk)
  }
  ts.forEachChild(ts.createSourceFile(name, text, ts.ScriptTarget.Latest), walk)
  return found
}

function isOfTypes(node) {
  if (node.isTypeOnly || node.importClause?.isTypeOnly) return true
  const names = (node.importClause?.namedBindings ?? node.exportClause)?.elements
  return names !== undefined && !node.importClause?.name && names.every((one) => one.isTypeOnly)
}

/** Included by their path from native/, or from the file's own folder. */
function nativeIncludes(text, name, known) {
  const paths = [...text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].map(([, path]) => path)
  return paths.map((path) => (known.has(path) ? path : posix.join(posix.dirname(name), path)))
}

function folderOf(file) {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : '.'
}

function words(text = '') {
  return text.split(' ').filter(Boolean)
}
