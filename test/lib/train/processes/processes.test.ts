import { expect, test } from 'vitest'
import { launchOf } from '../../../../lib/native/launcher.js'
import { type Machine, shareOfCores } from '../../../../lib/train/processes/cores.js'
import { Processes } from '../../../../lib/train/processes/processes.js'

const cores = (begin: number, end: number) => Array.from({ length: end - begin }, (_, i) => begin + i)
const machine = (
  host: string,
  own: readonly number[],
  usable = own.length,
  boot = `boot of ${host}`,
): Machine => ({
  host,
  boot,
  cores: own,
  usable,
})
const shares = (machines: readonly Machine[]) => machines.map((_, rank) => shareOfCores(machines, rank))

test('ranks of a machine share its cores, and those of others do not count', () => {
  const [a, b] = [machine('a', cores(0, 16)), machine('b', cores(0, 8))]
  expect(shares([a, a, b])).toEqual([8, 8, 8])
  expect(shares([a, a, a, b, b])).toEqual([5, 5, 5, 4, 4])
})

test('ranks that are bound to cores of their own have all of them, and overlapping ones their part', () => {
  expect(shares([machine('a', cores(0, 4)), machine('a', cores(4, 8))])).toEqual([4, 4])
  expect(shares([machine('a', cores(0, 4)), machine('a', cores(0, 8))])).toEqual([2, 6])
})

test('a rank has one thread at least, and a quota is of all ranks', () => {
  const two = machine('a', cores(0, 2))
  expect(shares([two, two, two])).toEqual([1, 1, 1])
  expect(shares(Array(2).fill(machine('a', cores(0, 64), 8)))).toEqual([4, 4])
})

test('containers of one machine share its cores, although they have names of their own', () => {
  const at = (host: string) => machine(host, cores(0, 8), 8, 'the same boot')
  expect(shares([at('pod-0'), at('pod-1')])).toEqual([4, 4])
  expect(shares([machine('a', cores(0, 8), 8, ''), machine('b', cores(0, 8), 8, '')])).toEqual([8, 8])
})

test('launchers are known by the variables that they set, and Slurm alone is none', () => {
  const openMpi = {
    OMPI_COMM_WORLD_SIZE: '4',
    OMPI_COMM_WORLD_RANK: '3',
    OMPI_COMM_WORLD_LOCAL_RANK: '1',
    PMIX_RANK: '3',
  }
  expect(launchOf(openMpi)).toEqual({
    launcher: 'open_mpi',
    variable: 'OMPI_COMM_WORLD_SIZE',
    rank: 3,
    localRank: 1,
    size: 4,
    library: '',
  })
  expect(launchOf({ PMI_RANK: '1', PMI_SIZE: '2' })).toMatchObject({ launcher: 'pmi', rank: 1, size: 2 })
  expect(launchOf({ PMIX_RANK: '1' })).toMatchObject({ launcher: 'pmix', rank: 1, size: 0 })
  expect(launchOf({ SLURM_NTASKS: '4', SLURM_PROCID: '0' })).toBeUndefined()
  expect(launchOf({ ...openMpi, LOWRANK_MPI: 'off' })).toBeUndefined()
})

test('a process alone meets itself, and its errors are its own', async () => {
  const ranks = Processes.alone()
  expect(await ranks.meet('anywhere', 5)).toEqual([5])
  const error = new Error('own')
  await expect(ranks.together('anywhere', () => Promise.reject(error))).rejects.toBe(error)
  expect(ranks.tells).toBe(true)
  const { signal } = new AbortController()
  expect(ranks.joint(signal)).toBe(signal)
})
