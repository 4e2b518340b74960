/** Output of `lowrank cache --json`. */
import * as z from 'zod'
import { bytes } from './fields.js'

export const printed = z.object({
  action: z.enum(['list', 'check', 'clear']),
  folder: z.string().describe('Folder of the files'),
  limit_bytes: bytes.describe('Limit of the kept bytes'),
  bytes: bytes.describe('Bytes of the files below'),
  files: z
    .array(
      z.object({
        name: z.string(),
        model: z.string().describe('Name of the folder or file that it was made from'),
        quantization: z.string().describe('Quantization of the linears'),
        bytes,
        last_used: z.string().describe('ISO 8601'),
        state: z
          .enum(['whole', 'damaged'])
          .optional()
          .describe('check: whole if it has the bytes that were written; a damaged file was removed'),
      }),
    )
    .describe('The most recently used first; with clear, the removed files'),
  downloads: z
    .object({
      folder: z.string().describe("The hub's cache"),
      bytes: bytes.describe('Bytes of the files below'),
      files: z.array(
        z.object({
          model: z.string().describe('owner/name'),
          names: z.array(z.string()).describe('Its paths in the repository'),
          path: z.string(),
          hash: z.string().describe('Expected hash: SHA-256, or for small files the hash of git'),
          bytes,
          state: z.enum(['whole', 'damaged']).describe('A damaged file is not used any more'),
        }),
      ),
    })
    .optional()
    .describe('check: files that were downloaded from the hub'),
  seconds: z.number().optional().describe('check: time of reading'),
})
