/** Constants of MPI that the addon has without its headers, held to the headers where they are installed. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { skip } from '../needs.js'

const own = readFileSync(fileURLToPath(new URL('../../native/comm/mpi.h', import.meta.url)), 'utf8')

function header(paths: readonly string[]): string {
  const found = paths.find((path) => existsSync(path))
  if (found === undefined) skip(`${paths.join(' and ')} are not there`)
  return readFileSync(found as string, 'utf8')
}

const [, world, byte, serialized] = /kMpichConstants\{(0x\w+), (0x\w+), (\d)\}/.exec(own) ?? []

test("MPICH's handles are those of its mpi.h", () => {
  const text = header([
    '/usr/include/x86_64-linux-gnu/mpich/mpi.h',
    '/usr/lib/x86_64-linux-gnu/mpich/include/mpi.h',
  ])
  expect(/define MPI_COMM_WORLD\s+\(\(MPI_Comm\)(0x\w+)\)/.exec(text)?.[1]).toBe(world)
  expect(/define MPI_BYTE\s+\(\(MPI_Datatype\)(0x\w+)\)/.exec(text)?.[1]).toBe(byte)
  expect(/define MPI_THREAD_SERIALIZED\s+(\d)/.exec(text)?.[1]).toBe(serialized)
})

test("Open MPI's handles are addresses of the variables that its mpi.h names", () => {
  const text = header(['/usr/lib/x86_64-linux-gnu/openmpi/include/mpi.h'])
  const variable = (name: string) =>
    new RegExp(`define ${name} OMPI_PREDEFINED_GLOBAL\\(\\s*\\w+, (\\w+)\\)`).exec(text)?.[1]
  expect(own).toContain(`kOpenMpiWorld = "${variable('MPI_COMM_WORLD')}"`)
  expect(own).toContain(`kOpenMpiByte = "${variable('MPI_BYTE')}"`)
  const levels = /enum \{\s*(MPI_THREAD_SINGLE[^}]*)\}/
    .exec(text)?.[1]
    ?.split(',')
    .map((name) => name.trim())
  expect(own).toContain(`kOpenMpiSerialized = ${levels?.indexOf('MPI_THREAD_SERIALIZED')};`)
})
