/** Output of `lowrank doctor --json`. */
import * as z from 'zod'
import { bytes, count } from './fields.js'

const part = z.object({ available: z.boolean(), reason: z.string() })

export const printed = z.object({
  platform: z.object({
    target: z.string().describe('Name of the platform, such as linux-x64-musl'),
    libc: z.string().describe('C library and its version; empty where there is one only'),
    known: z.string().describe('Checks that ran on the platform (docs/install.md#your-platform)'),
  }),
  addon: z.union([
    z.object({ from: z.enum(['env', 'build', 'prebuild']), path: z.string(), version: z.string() }),
    z.object({ error: z.string().describe('Why the addon does not load') }),
  ]),
  cpu: z.object({
    model: z.string(),
    isa: z.string().optional().describe('Instruction set in use; this and what follows needs the addon'),
    problem: z.string().optional().describe('Reason that the instruction set is lower than the processor'),
    slow: z.string().optional().describe('Reason that the slow portable kernels are in use'),
    levels: z.array(z.string()).optional().describe('Instruction sets that this machine has kernels for'),
    threads: count.optional(),
    cores: count.optional(),
    bf16: z.boolean().optional().describe('True if bf16 is faster than fp32 on this machine'),
  }),
  install: z.object({
    prebuilds: z
      .array(z.object({ file: z.string(), fits: z.boolean().describe('True if it is for this platform') }))
      .describe('The prebuilt addons that are installed'),
    missing_for_build: z
      .array(z.string())
      .describe('Tools that a build from source needs and that this machine lacks'),
  }),
  cuda: part.extend({
    cards: z
      .array(
        z.object({
          device: z.string().describe('Name for `device`, such as cuda:0'),
          name: z.string(),
          compute_capability: z.number(),
          memory_bytes: bytes,
          problem: z.string().optional().describe('Why it cannot be used; absent where it can'),
        }),
      )
      .describe('The GPUs that the driver shows'),
  }),
  mpi: part,
  nccl: part.describe('The library that adds up gradients between GPUs'),
  node: z.object({ version: z.string(), napi: z.string(), platform: z.string(), arch: z.string() }),
  memory: z.object({ total_bytes: bytes, available_bytes: bytes }),
  environment: z.record(z.string(), z.string()).describe('The LOWRANK_ variables that are set'),
})
