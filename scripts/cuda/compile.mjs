/** Compiles native/backends/cuda/*.cu; what did not change since the last time is taken from out/cuda/objects. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { outFolder, root } from './toolkits.mjs'

export const kernelsFolder = join(root, 'native', 'backends', 'cuda')

/** Kinds of cards that kernels are compiled and checked for. */
export const CUBIN_TARGETS = ['sm_80', 'sm_86', 'sm_89', 'sm_90', 'sm_100', 'sm_120']
/** Those whose code is shipped: that for 8.0 runs on 8.6 as it is. */
export const SHIPPED_TARGETS = CUBIN_TARGETS.filter((target) => target !== 'sm_86')
export const PTX_TARGET = 'compute_80'

// Sums are fused where the source says so, as on the CPU.
const FLAGS = ['-std=c++20', '-fmad=false']

/** Names of the areas that have kernels, or those of `named` that do. */
export function areas(named = []) {
  const all = existsSync(kernelsFolder)
    ? readdirSync(kernelsFolder)
        .filter((file) => file.endsWith('.cu'))
        .map((file) => basename(file, '.cu'))
        .sort()
    : []
  for (const area of named) {
    if (!all.includes(area)) throw new Error(`no ${area}.cu; there are: ${all.join(', ') || 'none'}`)
  }
  return named.length > 0 ? named : all
}

/** Path of a source in the repository, and of every file that it includes by quotes. */
function sourcesOf(path, found = new Set()) {
  if (found.has(path) || !existsSync(path)) return found
  found.add(path)
  for (const [, name] of readFileSync(path, 'utf8').matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
    sourcesOf(join(dirname(path), name), found)
    sourcesOf(join(kernelsFolder, name), found)
  }
  return found
}

function commandOf({ area, compiler, target, lines }, out, tools) {
  const common = lines ? [...FLAGS, '-lineinfo'] : FLAGS
  const source = join(kernelsFolder, `${area}.cu`)
  if (compiler === 'nvrtc') {
    const includes = tools.nvrtc.includes.map((folder) => `-I${folder}`)
    const flags = [...common, '-default-device', `--gpu-architecture=${target}`, ...includes]
    return ['python3', join(import.meta.dirname, 'nvrtc.py'), tools.nvrtc.library, source, out, ...flags]
  }
  const kind = target === PTX_TARGET ? '--ptx' : '--cubin'
  const strict = ['-O3', '--expt-relaxed-constexpr', '-Werror', 'all-warnings']
  return [tools.nvcc, ...common, ...strict, `-arch=${target}`, kind, '-o', out, source]
}

/** What a result is made of: the sources' text, the command without this machine's paths, and the compiler. */
function keyOf(job, tools) {
  const hash = createHash('sha256')
  const command = commandOf(job, '', tools).map((word) => word.replaceAll(root, ''))
  hash.update(JSON.stringify([command, tools.versions[job.compiler]]))
  for (const path of sourcesOf(join(kernelsFolder, `${job.area}.cu`))) {
    // The second half of an area is the host's.
    const [onDevice] = readFileSync(path, 'utf8').split('\n#else\n#include "backends/cuda/runs.h"\n')
    hash.update(JSON.stringify([relative(root, path), onDevice]))
  }
  return hash.digest('hex').slice(0, 16)
}

function execute([program, ...args]) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said += text
    })
  }
  return new Promise((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ code, said }))
  })
}

/**
 * Compiles `jobs` ({area, compiler: 'nvcc' | 'nvrtc', target, lines}), as many at once as there are processors; adds `file` to
 * each. With `lines` the result names lines of the sources. Throws an Error with the compilers' messages once all have run.
 */
export async function compile(jobs, tools) {
  const folder = join(outFolder, 'objects')
  mkdirSync(folder, { recursive: true })
  const there = readdirSync(folder)
  const failures = []
  const queue = []
  for (const job of jobs) {
    const stem = `${job.area}.${job.compiler}.${job.target}.${job.lines ? 'lines.' : ''}`
    const key = keyOf(job, tools)
    const name = `${stem}${key}.${job.target === PTX_TARGET ? 'ptx' : 'cubin'}`
    job.file = join(folder, name)
    if (there.includes(name)) continue
    for (const old of there) {
      if (old.startsWith(stem) && /^[0-9a-f]{16}\.\w+$/.test(old.slice(stem.length)))
        rmSync(join(folder, old), { force: true })
    }
    queue.push({ ...job, key })
  }
  async function worker() {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const { area, compiler, target, file, key } = job
      const work = `${file}.${process.pid}`
      const { code, said } = await execute(commandOf(job, work, tools))
      const same = keyOf(job, tools) === key
      if (code === 0 && same) renameSync(work, file)
      else rmSync(work, { force: true })
      if (!same) failures.push(`${area}.cu changed while it was compiled`)
      const text = said.replaceAll(`${root}/`, '').trim()
      if (code !== 0) failures.push(`${area}.cu by ${compiler} for ${target}:\n${text}`)
      else if (text) console.error(text)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  if (failures.length > 0) throw new Error(failures.join('\n\n'))
  return jobs
}
