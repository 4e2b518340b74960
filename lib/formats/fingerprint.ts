/**
 * A hash of a model's content. Reading gigabytes would take longer than loading, but headers alone cannot distinguish a
 * model from its fine-tuned copy, so the hash covers the headers and samples of every tensor.
 */

import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { readInto, withInputFile } from '../io/input.js'
import type { TensorSource } from './tensor-source.js'

/** A file of the model. Its name is hashed; the folder is not. */
export interface FingerprintInput {
  path: string
  size: number
  headerSha256: string
}

/** Bytes sampled from the start and the middle of each tensor. */
const SAMPLE = 2048

/** @returns SHA-256 in hex */
export async function fingerprintModel(
  files: readonly FingerprintInput[],
  tensors: readonly TensorSource[],
): Promise<string> {
  const hash = createHash('sha256')
  for (const { path, size, headerSha256 } of files) {
    hash.update(JSON.stringify([basename(path), size, headerSha256]))
  }
  const byFile = new Map<string, TensorSource[]>()
  for (const tensor of tensors) {
    const group = byFile.get(tensor.file)
    if (group) group.push(tensor)
    else byFile.set(tensor.file, [tensor])
  }
  for (const [path, group] of byFile) {
    await withInputFile(path, async (file) => {
      for (const { offset, bytes } of group.sort((a, b) => a.offset - b.offset)) {
        const sample = new Uint8Array(Math.min(bytes, SAMPLE))
        for (const start of bytes > SAMPLE ? [0, Math.floor((bytes - SAMPLE) / 2)] : [0]) {
          await readInto(file, sample, offset + start)
          hash.update(sample)
        }
      }
    })
  }
  return hash.digest('hex')
}
