/** Forces what was written to a file onto the disk. */
import { fsync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { promisify } from 'node:util'

const syncDescriptor = promisify(fsync)

/** Syncs a file by its descriptor: under Yarn's Plug'n'Play, handles have no `sync`. */
export const syncFile = ({ fd }: FileHandle): Promise<void> => syncDescriptor(fd)
