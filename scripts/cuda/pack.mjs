/**
 * Writes the kernel pack, prebuilds/lowrank.cuda: compiled kernels for every kind of card in one file, whose layout
 * native/backends/cuda/pack.h describes.
 *
 *   node scripts/cuda/pack.mjs --from FOLDER [--out FILE] [--raw]
 *
 * --raw does not compress it, for native programs, which do not inflate.
 * FOLDER is what `scripts/cuda.mjs build --out FOLDER` made: sm_NN/MODULE.cubin and compute_NN/MODULE.ptx.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { constants, crc32, deflateRawSync } from 'node:zlib'
import { CUDA, note, packFile } from '../build-record.mjs'

const HEADER = 32
const ROW = 64

/**
 * @param modules `{ name, kernels: names, images: { sm, ptx, bytes }[] }[]`; sm is the compute capability, ten times
 * @returns the bytes of the file
 */
export function packOf(modules, { raw = false } = {}) {
  const images = modules.flatMap(({ name, images }, module) =>
    images.map(({ sm, ptx, bytes }) => ({ name, module, sm, ptx, bytes: Buffer.from(bytes) })),
  )
  const kernels = modules.flatMap(({ kernels }, module) => kernels.map((name) => ({ name, module })))
  const twice = kernels.find(({ name }, i) => kernels.findIndex((other) => other.name === name) !== i)
  if (twice) throw new Error(`kernel ${twice.name} is in two modules`)
  const rows = Buffer.alloc((images.length + kernels.length) * ROW)
  const stored = images.map(({ bytes }) => {
    const small = raw ? bytes : deflateRawSync(bytes, { level: constants.Z_BEST_COMPRESSION })
    return small.length < bytes.length ? small : bytes
  })
  let offset = HEADER + rows.length
  for (const [i, { name, module, sm, ptx, bytes }] of images.entries()) {
    let at = i * ROW
    for (const number of [module, sm, ptx ? 1 : 0, crc32(bytes)]) at = rows.writeUInt32LE(number, at)
    for (const number of [offset, stored[i].length, bytes.length])
      at = rows.writeBigUInt64LE(BigInt(number), at)
    text(rows, name, at, 24)
    offset += stored[i].length
  }
  for (const [i, { name, module }] of kernels.entries()) {
    const at = (images.length + i) * ROW
    text(rows, name, at, 60)
    rows.writeUInt32LE(module, at + 60)
  }
  const header = Buffer.alloc(HEADER)
  header.write('LOWRCUDA', 'latin1')
  let at = 8
  for (const number of [1, images.length, kernels.length, crc32(rows)]) at = header.writeUInt32LE(number, at)
  header.writeBigUInt64LE(BigInt(offset), at)
  return Buffer.concat([header, rows, ...stored])
}

function text(rows, name, at, bytes) {
  if (Buffer.byteLength(name) >= bytes)
    throw new Error(`the name ${name} is too long: expected less than ${bytes} bytes`)
  rows.write(name, at)
}

/** The modules of a folder that scripts/cuda.mjs filled. */
function modulesOf(folder) {
  const modules = new Map()
  for (const target of readdirSync(folder).sort()) {
    const [, kind, sm] = /^(sm|compute)_(\d+)$/.exec(target) ?? []
    if (kind === undefined) continue
    const ptx = kind === 'compute'
    for (const file of readdirSync(join(folder, target)).sort()) {
      const [, name, extension] = /^(.+)\.(cubin|ptx)$/.exec(file) ?? []
      if (extension !== (ptx ? 'ptx' : 'cubin')) continue
      const module = modules.get(name) ?? { name, kernels: [], images: [] }
      modules.set(name, module)
      const bytes = readFileSync(join(folder, target, file))
      module.images.push({ sm: Number(sm), ptx, bytes })
      if (ptx)
        module.kernels = [...bytes.toString('latin1').matchAll(/\.entry\s+(\w+)/g)].map(([, entry]) => entry)
    }
  }
  for (const { name, kernels, images } of modules.values())
    if (kernels.length === 0)
      throw new Error(`${folder} has no PTX of ${name}, only ${images.length} other images`)
  if (modules.size === 0)
    throw new Error(`${folder} has no compiled kernels: node scripts/cuda.mjs build --out ${folder}`)
  return [...modules.values()]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      from: { type: 'string' },
      out: { type: 'string', default: packFile },
      raw: { type: 'boolean' },
    },
  })
  if (values.from === undefined)
    throw new Error('pack.mjs: --from names the folder with the compiled kernels')
  const modules = modulesOf(values.from)
  const bytes = packOf(modules, values)
  mkdirSync(dirname(values.out), { recursive: true })
  writeFileSync(`${values.out}.tmp`, bytes)
  renameSync(`${values.out}.tmp`, values.out)
  if (resolve(values.out) === packFile) note(CUDA)
  const kernels = modules.reduce((sum, module) => sum + module.kernels.length, 0)
  console.log(
    `${values.out}: ${kernels} kernels in ${modules.length} modules, ${(bytes.length / 2 ** 20).toFixed(2)} MiB`,
  )
}
