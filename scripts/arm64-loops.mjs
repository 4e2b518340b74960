// Counts the instructions of the innermost loops of the matrix kernels for arm64, level by level: what one multiply-add costs
// where no processor is at hand to time it. Wants objdump for arm64 (Debian: binutils-aarch64-linux-gnu) and the native tests,
// which `npm run test:arm64` builds.
//
//   arm64-loops.mjs [EXECUTABLE]
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

const executable =
  process.argv[2] ?? resolve(import.meta.dirname, '..', 'out', 'release-arm64', 'lowrank_tests')

/** Multiply-adds of an instruction. */
const PRODUCTS = [
  [/^fml[as]\s+v\d+\.4s/, 4],
  [/^bfdot\s/, 8],
  [/^bfmmla\s/, 16],
]
/** The tallest tiles of products and of attention. */
const KERNELS = [
  { level: 'neon', kernel: 'products, fp32', name: /neon::.*Fp32::sum_tile<5,/ },
  { level: 'neonbf16', kernel: 'products, bf16', name: /neonbf16::.*MmlaTiles::sum_tile<6>/ },
  { level: 'neon', kernel: 'attention, fp32', name: /neon::.*micro_kernel<.*MultiplyAdd, 6, 4>/ },
  { level: 'neonbf16', kernel: 'attention, bf16', name: /neonbf16::.*micro_kernel<.*PairScheme::Dot, 6, 4>/ },
]

function products({ text }) {
  return PRODUCTS.find(([pattern]) => pattern.test(text))?.[1] ?? 0
}

/** Instructions of the kernels, by name. */
function* kernels() {
  const { stdout, status } = spawnSync(
    'aarch64-linux-gnu-objdump',
    ['-d', '-C', '--no-show-raw-insn', executable],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
    },
  )
  if (status !== 0) throw new Error(`aarch64-linux-gnu-objdump cannot read ${executable}: npm run test:arm64`)
  let name
  let code = []
  for (const line of stdout.split('\n')) {
    const title = /^[0-9a-f]+ <(.*)>:$/.exec(line)?.[1]
    if (title !== undefined) {
      if (name) yield [name, code]
      name = KERNELS.some((each) => each.name.test(title)) ? title : undefined
      code = []
    }
    const [, address, text] = /^\s*([0-9a-f]+):\s+(.*)$/.exec(line) ?? []
    if (name && text) code.push({ address: Number.parseInt(address, 16), text })
  }
  if (name) yield [name, code]
}

/** The loop, between a jump back and its target, that multiplies most to an instruction. */
function hottest(code) {
  const loops = code.flatMap(({ address, text }, end) => {
    const target = Number.parseInt(/^(?:b\.\w+|cbn?z\s+\w+,|b)\s+([0-9a-f]+) /.exec(text)?.[1] ?? '', 16)
    const begin = target <= address ? code.findIndex((each) => each.address === target) : -1
    return begin < 0 ? [] : [code.slice(begin, end + 1)]
  })
  const rated = loops.map((loop) => ({
    instructions: loop.length,
    multiplyAdds: loop.reduce((sum, each) => sum + products(each), 0),
    stores: loop.filter(({ text }) => /^st[rpu]\w*\s+[qdv]/.test(text)).length,
  }))
  const rate = ({ multiplyAdds, instructions }) => multiplyAdds / instructions
  return rated.toSorted((a, b) => rate(b) - rate(a))[0]
}

const found = [...kernels()]
console.log(`| level | kernel | instructions of a step | multiply-adds | multiply-adds an instruction | vector stores |
| --- | --- | --- | --- | --- | --- |`)
for (const { level, kernel, name } of KERNELS) {
  const code = found.find(([title]) => name.test(title))?.[1]
  if (code === undefined) throw new Error(`${executable} has no kernel for ${kernel}`)
  const { instructions, multiplyAdds, stores } = hottest(code)
  const rate = (multiplyAdds / instructions).toFixed(1)
  console.log(`| ${[level, kernel, instructions, multiplyAdds, rate, stores].join(' | ')} |`)
}
