// Writes the table of additions in CONTRIBUTING.md: the source files that name something which was added, found in the sources.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { table, withMarked } from './markdown.mjs'

const root = resolve(import.meta.dirname, '..')

/** What was added, part of the names of its own files, and how other files name it. */
const ADDITIONS = [
  ['Qwen3, a model family', 'qwen3.', String.raw`'qwen3'|/qwen3\.js|Qwen3ForCausalLM|\bqwen3:`],
  ['Gemma, a model family', /\/gemma\./, String.raw`'gemma'|/gemma\.js|GemmaForCausalLM|\bgemma:`],
  ['MiSS, a strategy with existing maths', 'miss.', String.raw`'miss'|/miss\.js|\bmiss,|\bmiss: `],
  [
    'OFT, a strategy with new maths',
    /\/(oft|rotation(_(term|reference))?)\./,
    String.raw`\boft\b|\bRotation|rotation\.(h|cpp|inl)|_rotation`,
  ],
  [
    'HiRA, a strategy with new maths',
    /\/(hira|hadamard_term|times_weight(_reference)?)\./,
    String.raw`\bhira\b|\bHiRA\b|HadamardTerm|TimesWeight|times_weight|hadamard_term`,
  ],
  [
    '`short_conv`, an operation with kernels',
    'short_conv',
    String.raw`short_conv\b|ShortConv(Backward)?\b|shortConv\b`,
  ],
  ['`relu2`, a function of a gate', '/relu2.', 'relu2|Relu2'],
  ['KTO, a task with a loss of its own', /^lib\/(tasks|losses)\/kto\./, String.raw`'kto'|/kto\.js|KtoLoss`],
  [
    'ShareGPT, a form of data',
    /^lib\/data\/forms\/sharegpt\./,
    String.raw`'sharegpt'|/sharegpt\.js|shareGpt|conversations:|'conversations'`,
  ],
  ['`keep_attention`, a memory option of a run', 'keep_attention', 'keep_attention|keepAttention'],
  [
    '`embeddingNoise`, a field of an object that both languages know',
    'embeddingNoise',
    'embeddingNoise|embedding_noise',
  ],
  [
    '`cache`, a command',
    /^lib\/cli\/(schemas\/)?cache\./,
    String.raw`import\('\./cache\.js'\)|schemas/cache\.js`,
  ],
]

/** CONTRIBUTING.md with the table as the sources are. */
export function withAdditions(page) {
  const rows = ADDITIONS.map(([what, own, pattern]) => {
    const files = filesWith(pattern)
    const isOwn = (file) => (own instanceof RegExp ? own.test(file) : file.includes(own))
    // A file of its own need not name itself.
    const all = [...new Set([...files, ...tracked().filter(isOwn)])]
    return [what, String(all.length), listed(all.filter(isOwn)), listed(all.filter((file) => !isOwn(file)))]
  })
  return withMarked(page, 'CONTRIBUTING.md', {
    additions: table(['addition', 'files', 'own files', 'lines in existing files'], rows),
  })
}

const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim().split('\n')
/** Sources; what a script writes is none. */
const SOURCES = [
  'lib',
  'native',
  ':!native/backends/*.json',
  ':!lib/native/boundary.ts',
  ':!lib/native/lists.ts',
  ':!lib/graph/nodes.ts',
  ':!lib/options/types.ts',
  ':!lib/strategies/configs.ts',
  ':!lib/**/list.ts',
  ':!lib/losses/types.ts',
  ':!lib/strategies/makers.ts',
  ':!lib/report/strategy-labels.ts',
  ':!native/adapters/list.h',
  ':!native/backends/cpu/levels/areas.inl',
  ':!native/backends/cuda/lists.h',
  ':!native/core/boundary.h',
  ':!native/core/lists.h',
  ':!native/kernels/variant.h',
  ':!native/kernels/list.h',
  ':!native/ops/list.h',
]
const filesWith = (pattern) => git('grep', '-lE', pattern, '--', ...SOURCES)
const tracked = () => git('ls-files', '--', ...SOURCES)

/** Files by folder: `a.ts` and `b.ts` in `lib/x`. */
function listed(files) {
  const folders = new Map()
  for (const file of files) folders.set(dirname(file), [...(folders.get(dirname(file)) ?? []), file])
  return (
    [...folders]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([folder, inside]) => {
        const names = inside.map((file) => `\`${basename(file)}\``).sort()
        return `${names.join(', ')} in \`${folder}\``
      })
      .join('; ') || 'none'
  )
}

if (process.argv[1] === import.meta.filename) {
  const page = resolve(root, 'CONTRIBUTING.md')
  writeFileSync(page, withAdditions(readFileSync(page, 'utf8')))
}
