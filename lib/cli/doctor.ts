/** `lowrank doctor`: describes the machine and the addon, and explains why parts are unavailable. */
import { cpus, totalmem } from 'node:os'
import type { Command } from 'commander'
import { formatBytes } from '../core/bytes.js'
import { NativeLoadError } from '../core/errors.js'
import { addon } from '../native/addon.js'
import { usableCards } from '../native/device.js'
import { translated } from '../native/errors.js'
import { launchOf } from '../native/launcher.js'
import { levelProblem, portableKernels, thisProcessor } from '../native/level.js'
import { addonOrigin, missingForBuild, packagedAddons } from '../native/load.js'
import { mpiLibraries } from '../native/mpi-libraries.js'
import { PLATFORMS } from '../native/platforms.js'
import { libc, targetName } from '../native/prebuilt.js'
import { EXIT_FAILED } from './errors.js'
import { facts } from './format.js'
import { examples } from './help.js'
import { Output } from './output.js'
import type { Printed } from './schemas.js'

type Report = Printed<'doctor'>
type Part = Report['mpi']

export function configure(command: Command): void {
  examples(command, ['lowrank doctor', 'lowrank doctor --json'])
  command.action((options: { json?: boolean }) => {
    const output = new Output(options.json ?? false)
    const report = examine()
    output.answer<'doctor'>(report, () => describe(report))
    if ('error' in report.addon || report.cpu.problem) process.exitCode = EXIT_FAILED
  })
}

function examine(): Report {
  const model = cpus()[0]?.model.trim() ?? 'unknown'
  const environment = Object.entries(process.env).filter(([name]) => name.startsWith('LOWRANK_'))
  const common = {
    platform: {
      target: targetName(),
      libc: [libc().name, libc().version].filter(Boolean).join(' '),
      known: PLATFORMS[targetName()] ?? 'nothing: there is no prebuilt addon for it',
    },
    install: { prebuilds: packagedAddons(), missing_for_build: missingForBuild() },
    node: {
      version: process.versions.node,
      napi: process.versions.napi ?? '',
      platform: process.platform,
      arch: process.arch,
    },
    memory: { total_bytes: totalMemory(), available_bytes: process.availableMemory() },
    environment: Object.fromEntries(environment) as Record<string, string>,
  }
  try {
    const { prefersBf16: bf16, ...cpu } = translated(() => addon().cpu())
    const problem = levelProblem(cpu.isa, thisProcessor())
    const slow = portableKernels(cpu.isa, thisProcessor())
    return {
      addon: { ...addonOrigin(), version: addon().version },
      cpu: { model, ...cpu, bf16, ...(problem && { problem }), ...(slow && { slow }) },
      cuda: cudaPart(),
      mpi: mpiPart(),
      nccl: ncclPart(),
      ...common,
    }
  } catch (error) {
    if (!(error instanceof NativeLoadError)) throw error
    const absent = { available: false, reason: 'the addon does not load' }
    const cuda = { ...absent, cards: [] }
    return { addon: { error: error.message }, cpu: { model }, cuda, mpi: absent, nccl: absent, ...common }
  }
}

/** The GPUs, and why some of them are not usable. */
function cudaPart(): Report['cuda'] {
  const report = translated(() => addon().cuda())
  const { available, version, cards, reasons } = report
  const usable = usableCards(report).map(({ number, name }) => `cuda:${number} ${name}`)
  return {
    available,
    reason: [...(available ? [`${usable.join(', ')}, driver for CUDA ${version}`] : []), ...reasons].join(
      '; ',
    ),
    cards: cards.map(({ number, name, sm, memoryBytes, reason }) => ({
      ...{ device: `cuda:${number}`, name, compute_capability: sm / 10, memory_bytes: memoryBytes },
      ...(reason && { problem: reason }),
    })),
  }
}

/** The MPI libraries, or why there are none, and the launcher that started this process. */
function mpiPart(): Part {
  const { libraries, reasons } = mpiLibraries()
  const launch = launchOf(process.env)
  const started = launch ? [`a launcher has started this process (${launch.variable} is set)`] : []
  const found = libraries.map(({ name, version }) => `${version} (${name})`)
  if (found.length > 0) return { available: true, reason: [found.join(', '), ...started].join('; ') }
  const remedy = 'to train on several processes, install Open MPI (openmpi-bin) or MPICH'
  return { available: false, reason: [...reasons, ...started, remedy].join('; ') }
}

/** The library for communication between GPUs, or why there is none. */
function ncclPart(): Part {
  const { library, version, reason } = translated(() => addon().nccl())
  if (reason === '') return { available: true, reason: `${version} (${library})` }
  return {
    available: false,
    reason: `${reason}; only ranks with several GPUs would use it (docs/cluster.md#gpus)`,
  }
}

/** Physical memory, or the container's limit if that is lower. */
function totalMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

function describe({
  platform,
  addon,
  cpu,
  install,
  cuda,
  mpi,
  nccl,
  node,
  memory,
  environment,
}: Report): string {
  const origins = { env: 'LOWRANK_NATIVE_PATH', build: 'built from source', prebuild: 'prebuilt' }
  const part = ({ available, reason }: Part) => `${available ? 'available' : 'not available'}: ${reason}`
  const { total_bytes, available_bytes } = memory
  const prebuilt = install.prebuilds.map(({ file, fits }) => (fits ? `${file} (for this platform)` : file))
  const missing = install.missing_for_build
  return facts([
    ['platform', [platform.target, platform.libc].filter(Boolean).join(', ')],
    ['known', `${platform.known} (docs/install.md#your-platform)`],
    ['addon', 'error' in addon ? addon.error : `${addon.version}, ${origins[addon.from]}: ${addon.path}`],
    ['prebuilt', prebuilt.join(', ') || 'none in this package'],
    ['build', missing.length === 0 ? 'from source is possible' : `lacks ${missing.join('; ')}`],
    ['cpu', cpu.model],
    ['instructions', cpu.isa && `${cpu.isa} (runs here: ${cpu.levels?.join(', ')})`],
    ['problem', cpu.problem],
    ['slow', cpu.problem ? undefined : cpu.slow],
    ['bf16', cpu.bf16 === undefined ? undefined : cpu.bf16 ? 'fast here' : 'not faster; fp32 is used'],
    ['threads', cpu.threads && `${cpu.threads} of ${cpu.cores} cores`],
    ['cuda', part(cuda)],
    ['mpi', part(mpi)],
    ['nccl', part(nccl)],
    ['node', `${node.version}, Node-API ${node.napi}, ${node.platform}-${node.arch}`],
    ['memory', `${formatBytes(available_bytes)} available of ${formatBytes(total_bytes)}`],
    ...Object.entries(environment),
  ])
}
