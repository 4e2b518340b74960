/**
 * Trains on hosts that are network namespaces of this machine, and cuts the interface of one in the middle: the others
 * must end by themselves and name it, with a checkpoint from which the run resumes once the interface is up again.
 *
 *   npm run build && sudo node scripts/cut-network.mjs [--hosts 3] [--mpirun mpirun.openmpi]
 *
 * Needs Linux, root, `ip` (iproute2), and Open MPI or MPICH. Exits 2 and says why where one of them is missing.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Hosts, lackOfHosts } from './hosts.mjs'

const { values: options } = parseArgs({
  options: {
    hosts: { type: 'string', default: '3' },
    mpirun: { type: 'string', default: 'mpirun' },
  },
})
const root = resolve(import.meta.dirname, '..')
const main = join(root, 'dist/esm/cli/main.js')
const HOSTS = Number(options.hosts)
const PATIENCE = 5
const MOST_SECONDS = 60
const CUT = 1

const lack =
  lackOfHosts() ??
  (spawnSync(options.mpirun, ['--version']).error ? `${options.mpirun} is not installed` : undefined)
if (lack !== undefined) {
  console.error(`cut-network: not run: ${lack}`)
  process.exit(2)
}
const folder = mkdtempSync(join(tmpdir(), 'lowrank-cut-network-'))
const hosts = new Hosts(HOSTS)
try {
  writeAgent()
  await check()
} finally {
  hosts.remove()
  rmSync(folder, { recursive: true, force: true })
}

/** In place of ssh: runs a command in the namespace of an address, under a host name of its own. */
function writeAgent() {
  const cases = hosts.addresses.map((address, index) => `  ${address}) host=${hosts.names[index]} ;;`)
  const agent = [
    '#!/bin/sh',
    'while case $1 in -*) true ;; *) false ;; esac; do shift; done',
    'case $1 in',
    ...cases,
    'esac',
    'shift',
    'exec ip netns exec $host unshare --uts sh -c "hostname $host; $*"',
  ]
  writeFileSync(join(folder, 'agent'), `${agent.join('\n')}\n`, { mode: 0o755 })
}

/** The launcher's words before the command that the ranks run. */
function launcher() {
  const version = execFileSync(options.mpirun, ['--version'], { encoding: 'utf8' })
  const addresses = hosts.addresses.join(',')
  const agent = join(folder, 'agent')
  if (/HYDRA|MPICH/.test(version))
    return [
      ...['-launcher', 'ssh', '-launcher-exec', agent, '-iface', 'eth0'],
      ...['-hosts', addresses, '-ppn', '1', '-n', String(HOSTS)],
    ]
  const set = (name, value) => ['--mca', name, value]
  return [
    ...['--allow-run-as-root', '--host', addresses, '-n', String(HOSTS), '--bind-to', 'none'],
    ...[...set('plm_rsh_agent', agent), ...set('btl', 'self,tcp')],
    ...[...set('btl_tcp_if_include', 'eth0'), ...set('oob_tcp_if_include', 'eth0')],
  ]
}

/** Trains on all hosts; `told` is called with the output so far. */
function train(args, told) {
  const demo = join(root, 'demo/config.yaml')
  const command = [process.execPath, main, 'train', demo, '--json', '--set', `output_dir=${folder}/out`]
  const settings = ['max_steps=40', 'save_steps=5', 'save_total_limit=2'].flatMap((key) => ['--set', key])
  const [program, ...words] = [
    ...hosts.on(0),
    options.mpirun,
    ...launcher(),
    ...command,
    ...settings,
    ...args,
  ]
  const child = spawn(program, words, {
    env: {
      ...process.env,
      ...{ LOWRANK_THREADS: '1', LOWRANK_MPI_TIMEOUT: String(PATIENCE) },
      ...{ UCX_TLS: 'tcp,self', UCX_NET_DEVICES: 'eth0', FI_PROVIDER: 'tcp' },
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = { stdout: '', stderr: '', code: null }
  for (const name of ['stdout', 'stderr'])
    child[name].setEncoding('utf8').on('data', (text) => {
      ended[name] += text
      told?.(ended)
    })
  return new Promise((done) => child.on('close', (code) => done({ ...ended, code })))
}

async function check() {
  let cut
  const running = train([], ({ stdout }) => {
    if (cut !== undefined || !stdout.includes('"step":12,')) return
    cut = performance.now()
    hosts.connect(CUT, false)
  })
  const late = sleep(10 * MOST_SECONDS * 1000, 'late', { ref: false })
  const ended = await Promise.race([running, late])
  const seconds = (performance.now() - (cut ?? 0)) / 1000
  expect(ended !== 'late', 'the launcher still waits for the host without a network', ended)
  expect(cut !== undefined, 'the run ended before the interface was cut', ended)
  expect(ended.code !== 0, 'the run ended as if nothing had happened', ended)
  const named = new RegExp(`rank ${CUT} on ${hosts.names[CUT]} has not answered for ${PATIENCE} s`)
  expect(named.test(ended.stderr + ended.stdout), `no message names rank ${CUT}`, ended)
  expect(seconds < MOST_SECONDS, `it took ${seconds.toFixed(1)} s to end`, ended)
  const saved = readdirSync(join(folder, 'out')).filter((name) => /^checkpoint-\d+$/.test(name))
  expect(saved.length > 0, 'there is no checkpoint', ended)
  hosts.connect(CUT, true)
  const resumed = await train(['--resume'])
  expect(resumed.code === 0, 'the run does not resume', resumed)
  expect(
    existsSync(join(folder, 'out/adapter_model.safetensors')),
    'the resumed run saved no adapter',
    resumed,
  )
  console.log(
    `${options.mpirun}: ${HOSTS} hosts; ended ${seconds.toFixed(1)} s after rank ${CUT} was cut off, and resumed from ${saved.sort((a, b) => Number(b.slice(11)) - Number(a.slice(11)))[0]}`,
  )
}

function expect(holds, otherwise, { stdout = '', stderr = '' }) {
  if (holds) return
  console.error(`${stdout}${stderr}`)
  throw new Error(otherwise)
}
