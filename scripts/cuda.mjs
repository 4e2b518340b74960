// Compiles the CUDA kernels on a machine without a GPU, with compilers that pip fetches into out/cuda.
//
//   cuda.mjs ptx --out FOLDER [AREA...]     PTX of both compilers: FOLDER/nvrtc/AREA.ptx and FOLDER/nvcc/AREA.ptx
//   cuda.mjs build --out FOLDER [--targets sm_80,...] [AREA...]
//                                           what is shipped: FOLDER/sm_80/AREA.cubin ... and FOLDER/compute_80/AREA.ptx
//   cuda.mjs check [--targets sm_80,...] [--write] [AREA...]
//                                           registers, stack and shared memory on every target, against
//                                           budgets.json, which --write makes anew
//   cuda.mjs traffic --from FOLDER [--write]
//                                           bytes that kernels move against the least, from what the native tests wrote
//                                           (LOWRANK_CUDA_TRAFFIC), and traffic.json, which --write makes anew
//
// Without AREA: all of native/backends/cuda. Sources that did not change are not compiled again. Exits 3 where the
// compilers cannot be had.
import { copyFileSync, mkdirSync } from 'node:fs'
import { extname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { excesses, tableOf, writeBudgets } from './cuda/budgets.mjs'
import { areas, CUBIN_TARGETS, compile, PTX_TARGET, SHIPPED_TARGETS } from './cuda/compile.mjs'
import { tools, Unavailable } from './cuda/toolkits.mjs'
import { moreTraffic, trafficOf, writeTraffic } from './cuda/traffic.mjs'

const { values, positionals } = parseArgs({
  options: {
    out: { type: 'string' },
    from: { type: 'string' },
    write: { type: 'boolean' },
    targets: { type: 'string' },
  },
  allowPositionals: true,
})

const COMPILERS = ['nvrtc', 'nvcc']
const UNAVAILABLE = 3

function folder(verb) {
  if (!values.out) throw new Error(`${verb}: --out FOLDER is missing`)
  return resolve(values.out)
}

/** Copies each job's file to FOLDER/`folderOf(job)`/AREA. */
function lay(jobs, out, folderOf) {
  for (const job of jobs) {
    const folder = join(out, folderOf(job))
    mkdirSync(folder, { recursive: true })
    copyFileSync(job.file, join(folder, `${job.area}${extname(job.file)}`))
  }
  console.log(`${jobs.length} files in ${values.out}`)
}

async function ptx(named) {
  const out = folder('ptx')
  const jobs = areas(named).flatMap((area) =>
    COMPILERS.map((compiler) => ({ area, compiler, target: PTX_TARGET, lines: true })),
  )
  lay(await compile(jobs, tools()), out, ({ compiler }) => compiler)
}

/** The older compiler's: its cubins run on more drivers. */
async function build(named) {
  const out = folder('build')
  const jobs = areas(named).flatMap((area) =>
    [...chosenTargets(SHIPPED_TARGETS), PTX_TARGET].map((target) => ({ area, compiler: 'nvrtc', target })),
  )
  lay(await compile(jobs, tools()), out, ({ target }) => target)
}

function chosenTargets(usual) {
  const targets = values.targets?.split(',') ?? usual
  const unknown = targets.find((target) => !CUBIN_TARGETS.includes(target))
  if (unknown) throw new Error(`--targets ${unknown}: expected ${CUBIN_TARGETS.join(', ')}`)
  return targets
}

async function check(named) {
  const found = tools()
  const targets = chosenTargets(CUBIN_TARGETS)
  const jobs = areas(named).flatMap((area) => targets.map((target) => ({ area, compiler: 'nvrtc', target })))
  const table = tableOf(await compile(jobs, found), found)
  const spilling = Object.keys(table).filter((name) => table[name].stack)
  if (spilling.length > 0) console.log(`kernels with a stack frame: ${spilling.join(', ')}`)
  if (values.write) {
    if (named.length > 0 || values.targets)
      throw new Error('check --write: the table is of all areas and targets; leave their names out')
    return writeBudgets(table)
  }
  const over = excesses(table, named.length === 0)
  if (over.length > 0) {
    throw new Error(
      `${over.join('\n')}\nIf that is meant: node scripts/cuda.mjs check --write, and commit the table`,
    )
  }
  console.log(`${Object.keys(table).length} kernels within budgets.json`)
}

function traffic() {
  if (!values.from) throw new Error('traffic: --from FOLDER is missing')
  const table = trafficOf(values.from)
  if (values.write) return writeTraffic(table)
  const more = moreTraffic(table)
  if (more.length > 0) throw new Error(more.join('\n'))
  console.log(`${Object.keys(table).length} kernels within traffic.json`)
}

const VERBS = { ptx, build, check, traffic }
const [verb, ...named] = positionals
try {
  if (!VERBS[verb]) throw new Error(`expected a verb: ${Object.keys(VERBS).join(', ')}`)
  await VERBS[verb](named)
} catch (error) {
  console.error(error.message)
  process.exitCode = error instanceof Unavailable ? UNAVAILABLE : 1
}
