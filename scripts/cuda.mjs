// Compiles the CUDA kernels on a machine without a GPU, with compilers that pip fetches into out/cuda.
//
//   cuda.mjs ptx --out FOLDER [AREA...]     PTX of both compilers: FOLDER/nvrtc/AREA.ptx and FOLDER/nvcc/AREA.ptx
//   cuda.mjs build --out FOLDER [AREA...]   what is shipped: FOLDER/sm_80/AREA.cubin ... and FOLDER/compute_80/AREA.ptx
//
// Without AREA: all of native/backends/cuda/kernels. Sources that did not change are not compiled again.
import { copyFileSync, mkdirSync } from 'node:fs'
import { extname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { areas, CUBIN_TARGETS, compile, PTX_TARGET } from './cuda/compile.mjs'
import { tools } from './cuda/toolkits.mjs'

const { values, positionals } = parseArgs({
  options: { out: { type: 'string' } },
  allowPositionals: true,
})

const COMPILERS = ['nvrtc', 'nvcc']

/** Copies each job's file to FOLDER/`folderOf(job)`/AREA. */
function lay(jobs, folderOf) {
  for (const job of jobs) {
    const folder = join(resolve(values.out), folderOf(job))
    mkdirSync(folder, { recursive: true })
    copyFileSync(job.file, join(folder, `${job.area}${extname(job.file)}`))
  }
  console.log(`${jobs.length} files in ${values.out}`)
}

async function ptx(named) {
  const jobs = areas(named).flatMap((area) =>
    COMPILERS.map((compiler) => ({ area, compiler, target: PTX_TARGET, lines: true })),
  )
  lay(await compile(jobs, tools()), ({ compiler }) => compiler)
}

/** The older compiler's: its cubins run on more drivers. */
async function build(named) {
  const jobs = areas(named).flatMap((area) =>
    [...CUBIN_TARGETS, PTX_TARGET].map((target) => ({ area, compiler: 'nvrtc', target })),
  )
  lay(await compile(jobs, tools()), ({ target }) => target)
}

const VERBS = { ptx, build }
const [verb, ...named] = positionals
try {
  if (!VERBS[verb]) throw new Error(`expected a verb: ${Object.keys(VERBS).join(', ')}`)
  if (!values.out) throw new Error(`${verb}: --out FOLDER is missing`)
  await VERBS[verb](named)
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
