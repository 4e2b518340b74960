import { fault } from './fault.mjs'

const TEST = 'test/lib/io/durable.test.ts'

export const files = [
  fault(
    'lib/io/atomic.ts',
    TEST,
    'await syncFile(handle).catch((cause) => Promise.reject(refused(cause)))',
    '',
    'a file is not synced before it is renamed',
  ),
  fault(
    'lib/io/atomic.ts',
    TEST,
    'await syncFolder(dirname(path))',
    '',
    'a folder is not synced after a file is renamed',
  ),
  fault(
    'lib/io/atomic-folder.ts',
    TEST,
    'await syncFolder(temporary)',
    '',
    'a folder is not synced before it is renamed',
  ),
  fault(
    'lib/io/atomic-folder.ts',
    TEST,
    'await syncFolder(dirname(place))',
    '',
    'the folder above is not synced after a folder is renamed',
  ),
  fault(
    'lib/io/growing-file.ts',
    TEST,
    'await syncFile(this.#handle)',
    'await Promise.resolve()',
    'lines of an event log are not synced before a checkpoint',
  ),
  fault(
    'lib/hub/download.ts',
    TEST,
    'await syncFile(handle)',
    'await Promise.resolve()',
    'a download is not synced before it is renamed',
  ),
  fault(
    'lib/hub/download.ts',
    TEST,
    'await syncFolder(dirname(blob))',
    '',
    'the folder of a download is not synced',
  ),
  fault(
    'lib/train/run/run-loop.ts',
    'test/e2e/recorded-steps.test.ts',
    'await recorder.covered(step)',
    '',
    'a checkpoint is saved before the line of its step',
    { inPrograms: true },
  ),
]
