/**
 * Makes a cluster of Slurm out of this machine, with network namespaces as hosts, and runs examples/cluster/slurm.sh there:
 * by PMIx and by PMI-2, which must give the same adapter; and stopped by a signal, and resumed on
 * one host.
 *
 *   npm run build && sudo node scripts/slurm.mjs
 *
 * Needs Linux, root, `ip` (iproute2), and, by their names on Debian, slurm-wlm, slurm-wlm-basic-plugins, libpmix-dev, munge,
 * openmpi-bin, and mpich. Exits 2 and says why where one of them is missing.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Hosts, lackOfHosts } from './hosts.mjs'

const root = resolve(import.meta.dirname, '..')
const main = join(root, 'dist/esm/cli/main.js')
const script = readFileSync(join(root, 'examples/cluster/slurm.sh'), 'utf8')
const HOSTS = 2
const MOST_SECONDS = 120
const PROGRAMS = ['slurmctld', 'slurmd', 'sbatch', 'scancel', 'munged', 'mpirun.openmpi', 'mpirun.mpich']

const absent = PROGRAMS.find((program) => spawnSync('which', [program]).status !== 0)
const lack = lackOfHosts() ?? (absent && `${absent} is not installed`)
if (lack !== undefined) {
  console.error(`slurm: not run: ${lack}`)
  process.exit(2)
}
const folder = mkdtempSync(join(tmpdir(), 'lowrank-slurm-'))
const hosts = new Hosts(HOSTS)
const munged = startMunge()
try {
  await startSlurm()
  await check()
} catch (error) {
  console.error(`slurm: ${error.message}`)
  process.exitCode = 1
} finally {
  munged.kill()
  hosts.remove()
  rmSync(folder, { recursive: true, force: true })
}

/** The daemon that vouches for users, with a key and a socket of its own. */
function startMunge() {
  const at = (name) => join(folder, `munge.${name}`)
  // Others must be able to enter the folder, as the daemon demands.
  spawnSync('chmod', ['755', folder])
  writeFileSync(at('key'), randomBytes(128), { mode: 0o400 })
  const files = [`--key-file=${at('key')}`, `--socket=${at('socket')}`, `--log-file=${at('log')}`]
  return spawn('munged', ['--foreground', ...files, `--pid-file=${at('pid')}`, `--seed-file=${at('seed')}`])
}

async function startSlurm() {
  const nodes = hosts.names.map(
    (name, i) => `NodeName=${name} NodeAddr=${hosts.addresses[i]} CPUs=2 RealMemory=2000`,
  )
  const settings = [
    'ClusterName=lowrank',
    `SlurmctldHost=${hosts.names[0]}(${hosts.addresses[0]})`,
    ...['SlurmUser=root', 'SlurmdUser=root', 'AuthType=auth/munge', `AuthInfo=socket=${folder}/munge.socket`],
    ...['ProctrackType=proctrack/linuxproc', 'TaskPlugin=task/affinity'],
    ...['SelectType=select/cons_tres', 'SelectTypeParameters=CR_CPU', 'SlurmdParameters=config_overrides'],
    // Hosts have one file system here, so what PMIx keeps in files needs a folder each.
    ...[`StateSaveLocation=${folder}/state`, `SlurmdSpoolDir=${folder}/spool-%n`, `TmpFS=${folder}/tmp-%n`],
    ...[`SlurmctldPidFile=${folder}/slurmctld.pid`, `SlurmdPidFile=${folder}/slurmd-%n.pid`],
    ...nodes,
    `PartitionName=all Nodes=${hosts.names.join(',')} Default=YES State=UP`,
  ]
  writeFileSync(join(folder, 'slurm.conf'), `${settings.join('\n')}\n`)
  for (const name of ['state', ...hosts.names.flatMap((host) => [`spool-${host}`, `tmp-${host}`])])
    mkdirSync(join(folder, name))
  writeFileSync(join(folder, 'run.yaml'), config())
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
  const command = `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`
  writeFileSync(join(folder, 'node_modules/.bin/lowrank'), command, { mode: 0o755 })
  daemon(0, 'slurmctld', '-D', '-f', `${folder}/slurm.conf`)
  for (const [index, name] of hosts.names.entries())
    daemon(index, 'slurmd', '-D', '-f', `${folder}/slurm.conf`, '-N', name)
  const idle = () => on(0, 'sinfo', '-h', '-t', 'idle', '-o', '%D').stdout.trim()
  await until('the hosts to be idle', () => idle() === `${HOSTS}`, 30).catch((error) => {
    throw new Error(`${error.message}\n${readFileSync(join(folder, 'daemons.log'), 'utf8')}`)
  })
}

function config() {
  const strategy = 'strategy: { name: lora, r: 8 }'
  const sizes = 'precision: fp32\nmax_seq_length: 128\nper_device_train_batch_size: 4\nsave_steps: 5'
  return `model: ${root}/demo/base\ndataset: ${root}/demo/train.jsonl\n${strategy}\n${sizes}\nsample_rows: 0\nreport: false\n`
}

function daemon(host, ...words) {
  const [program, ...args] = [...hosts.on(host), ...words]
  const log = openSync(join(folder, 'daemons.log'), 'a')
  spawn(program, args, { stdio: ['ignore', log, log] })
}

/** Runs a command on a host to its end. */
function on(host, ...words) {
  const [program, ...args] = [...hosts.on(host), ...words]
  const env = {
    ...process.env,
    ...{ SLURM_CONF: join(folder, 'slurm.conf'), LOWRANK_THREADS: '1', LOWRANK_MEASURE: 'off' },
    ...{ LOWRANK_MPI_TIMEOUT: '10' },
    // Hosts that share a kernel must not find each other by its memory.
    ...{ UCX_TLS: 'tcp,self', UCX_NET_DEVICES: 'eth0', OMPI_MCA_btl: 'self,tcp', FI_PROVIDER: 'tcp' },
  }
  return spawnSync(program, args, { cwd: folder, env, encoding: 'utf8' })
}

async function until(what, holds, seconds = MOST_SECONDS) {
  const end = performance.now() + seconds * 1000
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s for ${what}`)
    await sleep(500)
  }
}

/** Submits the script of the examples. Gives its number, its log, and its state. */
function submit(name, { nodes = HOSTS, mpi = 'pmix', output = name, args = [] }) {
  writeFileSync(join(folder, 'job.sh'), script.replace('--mpi=pmix', `--mpi=${mpi}`))
  const log = join(folder, `${name}.log`)
  const wanted = [`--nodes=${nodes}`, '--ntasks-per-node=1', '--cpus-per-task=1', `--output=${log}`]
  const set = ['--set', `output_dir=${join(folder, output)}`]
  const { stdout, stderr } = on(0, 'sbatch', '--parsable', ...wanted, 'job.sh', 'run.yaml', ...set, ...args)
  const number = stdout.trim()
  if (!/^\d+$/.test(number)) throw new Error(`sbatch: ${stderr}`)
  return {
    number,
    log: () => (existsSync(log) ? readFileSync(log, 'utf8') : ''),
    state: () => /JobState=(\S+)/.exec(on(0, 'scontrol', 'show', 'job', number).stdout)?.[1],
  }
}

async function end(job) {
  await until(`job ${job.number} to end`, () => hasEnded(job))
  return job.state()
}

function hasEnded(job) {
  return !/PENDING|RUNNING|COMPLETING/.test(job.state())
}

/** Waits for a line in the log of a job, which must not end before. */
async function line(job, pattern) {
  await until(`${pattern} in the log`, () => pattern.test(job.log()) || hasEnded(job))
  expect(pattern.test(job.log()), 'the job ended early', job)
}

function adapterOf(name) {
  const weights = readFileSync(join(folder, name, 'adapter_model.safetensors'))
  return createHash('sha256').update(weights).digest('hex').slice(0, 16)
}

async function check() {
  const short = ['--set', 'max_steps=8']
  const adapters = []
  for (const mpi of ['pmix', 'pmi2']) {
    const job = submit(mpi, { mpi, args: short })
    expect((await end(job)) === 'COMPLETED', `the job by ${mpi} failed`, job)
    const name = /2 ranks .*by (.+), \d+ threads? each/.exec(job.log())?.[1]
    expect(name !== undefined, `the ranks by ${mpi} did not find each other`, job)
    adapters.push(adapterOf(mpi))
    console.log(`${mpi}: ${adapters.at(-1)}, ${name.replaceAll(/\s+/g, ' ')}`)
  }
  if (adapters[0] !== adapters[1]) throw new Error('the adapters differ')

  const long = ['--set', 'max_steps=400']
  const stopped = submit('stopped', { args: long })
  await line(stopped, /saved .*checkpoint-10\b/)
  on(0, 'scancel', '--signal=TERM', stopped.number)
  await end(stopped)
  const saved = newestCheckpoint()
  expect(saved >= 10, 'the stopped job saved no checkpoint', stopped)
  const resumed = submit('resumed', { nodes: 1, output: 'stopped', args: ['--resume', ...long] })
  await line(resumed, new RegExp(`step ${saved + 1}/`))
  console.log(`stopped by SIGTERM with a checkpoint of step ${saved}, resumed on one host`)
  on(0, 'scancel', '--signal=TERM', resumed.number)
  await end(resumed)
}

/** The last step of the stopped job that has a checkpoint. */
function newestCheckpoint() {
  const names = readdirSync(join(folder, 'stopped'))
  return Math.max(...names.map((name) => Number(/^checkpoint-(\d+)$/.exec(name)?.[1] ?? 0)))
}

function expect(holds, otherwise, job) {
  if (holds) return
  console.error(`${job.state()}\n${job.log()}`)
  throw new Error(otherwise)
}
