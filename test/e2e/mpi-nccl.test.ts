/**
 * Ranks whose GPUs NCCL connects, by stand-ins for the driver and for NCCL: the bits of sums through the host, all ranks in
 * the same way, and an end for all when one fails.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { lowrank } from '../lib/cli/lowrank.js'
import { hasStandin, ncclStandin, standin } from '../lib/native/cuda-standin.js'
import { mpirun } from './mpi.js'
import { project } from './project.js'

const TIMEOUT = 240_000
const RANK = '$PMI_RANK$OMPI_COMM_WORLD_RANK'
const BY_NCCL = 'Gradients are added up on the GPUs by NCCL 2.27.5.'
const settings = {
  ...{ device: 'cuda', precision: 'fp32', learning_rate: 1e-3, max_steps: 2, max_seq_length: 64 },
  ...{ strategy: { name: 'lora', r: 4 }, sample_rows: 0 },
}
const set = (key: string, value: unknown) => ['--set', `${key}=${value}`]

/** Variables of ranks that see the same cards. */
async function cards(sms: string, more: Record<string, string> = {}): Promise<Record<string, string>> {
  const env = standin({ LOWRANK_STANDIN_DEVICES: sms })
  const { LOWRANK_STANDIN_PACK: written, ...variables } = env
  // Written by one process, since the ranks start at the same time.
  await lowrank(['doctor', '--json'], { env: { ...env, LOWRANK_STANDIN_PACK: written as string } })
  return { ...variables, LOWRANK_LIBNCCL: ncclStandin, LOWRANK_THREADS: '1', ...more }
}

type Watch = NonNullable<Parameters<typeof lowrank>[1]>['watch']

/** @param script of a shell that starts each rank */
async function train(config: string, args: string[], env: Record<string, string>, own: Own = {}) {
  const { family = 'MPICH', ranks = 2, script = 'exec "$@"', cwd, watch } = own
  const { wrap, env: variables } = mpirun(family)
  return lowrank(['train', config, ...args], {
    wrap: (node, words) => wrap(ranks)('sh', ['-c', script, 'sh', node, ...words]),
    env: { ...variables, ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(watch === undefined ? {} : { watch }),
  })
}
interface Own {
  family?: 'MPICH' | 'Open MPI'
  ranks?: number
  script?: string
  cwd?: string
  watch?: Watch
}

describe.runIf(hasStandin)('on stand-in cards', () => {
  test.each(['MPICH', 'Open MPI'] as const)(
    '%s: gradients that three GPUs add up have the bits of sums through the host',
    async (family) => {
      const { config, at } = project(settings)
      const adapterOf = (folder: string) =>
        readFileSync(at(folder, 'adapter_model.safetensors')).toString('base64')
      const env = await cards('80,80,80')
      const direct = await train(config, set('output_dir', at('direct')), env, { family, ranks: 3 })
      expect(`${direct.code} ${direct.stderr}`).toMatch(/^0 /)
      expect(direct.stderr).toContain(BY_NCCL)
      const off = { ...env, LOWRANK_NCCL: 'off' }
      const through = await train(config, set('output_dir', at('through')), off, { family, ranks: 3 })
      expect(`${through.code} ${through.stderr}`).toMatch(/^0 /)
      expect(through.stderr).toMatch(
        /through the host, not by NCCL: rank 0 on \S+ has none \(LOWRANK_NCCL=off is set\)\./,
      )
      expect(adapterOf('direct')).toBe(adapterOf('through'))
      // One rank without the library is enough.
      const script = `[ "${RANK}" = 1 ] && export LOWRANK_LIBNCCL=/nowhere/libnccl.so.2; exec "$@"`
      const mixed = await train(config, set('output_dir', at('mixed')), env, { family, ranks: 3, script })
      expect(`${mixed.code} ${mixed.stderr}`).toMatch(/^0 /)
      expect(mixed.stderr).toMatch(/not by NCCL: rank 1 on \S+ has none \(\/nowhere\/libnccl\.so\.2/)
      expect(adapterOf('mixed')).toBe(adapterOf('through'))
    },
    TIMEOUT,
  )

  test(
    'ranks that share a card use the host',
    async () => {
      const { config } = project({ ...settings, max_steps: 1 })
      const { code, stderr } = await train(config, [], await cards('80'))
      expect(`${code} ${stderr}`).toMatch(/^0 /)
      expect(stderr).toMatch(/not by NCCL: rank 0 on \S+ and rank 1 on \S+ share a GPU\./)
    },
    TIMEOUT,
  )

  test.each([
    ['ncclAllGather:2:1', 'ncclAllGather: a planted system error'],
    ['ncclCommInitRank:1:1', 'ncclCommInitRank: a planted system error'],
  ])(
    'a rank that fails in %s ends all with one message',
    async (failure, message) => {
      const { config } = project({ ...settings, max_steps: 20 })
      const begin = performance.now()
      const { code, stderr } = await train(
        config,
        [],
        await cards('80,80', { LOWRANK_STANDIN_NCCL: failure }),
      )
      expect(code).not.toBe(0)
      expect(stderr.match(/error: /g)).toHaveLength(1)
      expect(stderr).toMatch(/error: rank 1 on \S+: NCCL 2\.27\.5 \(.*\) failed/)
      expect(stderr).toContain(message)
      expect(performance.now() - begin).toBeLessThan(60_000)
    },
    TIMEOUT,
  )

  test(
    'a rank that is stopped is found while GPUs add up, and the last checkpoint is whole',
    async () => {
      const { config, at } = project({ ...settings, max_steps: 100_000, num_train_epochs: 1, save_steps: 2 })
      let pid: number | undefined
      const { code, stderr } = await train(config, [], await cards('80,80', { LOWRANK_MPI_TIMEOUT: '3' }), {
        script: `echo $$ > pid.${RANK}; exec "$@"`,
        cwd: at(),
        watch: (_, { stderr: said }) => {
          if (pid !== undefined || !said.includes('saved')) return
          pid = Number(readFileSync(at('pid.1'), 'utf8'))
          process.kill(pid, 'SIGSTOP')
        },
      })
      expect(code).not.toBe(0)
      expect(stderr).toContain(BY_NCCL)
      expect(stderr).toMatch(/rank 1 on \S+ has not answered for 3 s/)
      expect(await lowrank(['inspect', at('out'), '--json'])).toMatchObject({ code: 0 })
    },
    TIMEOUT,
  )
})
